//! Parts of a run: lines, JSON, the log, the live line, and the number of
//! messages.

use std::fs;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;
use testing::{command, report_skip, run};

use crate::{BENCH, bench, server};

#[test]
fn line_is_printed_for_each_interval() {
    let addr = server(|_| {});
    let (code, stdout, _) = run(&mut bench(addr, &["--interval", "50ms", "--threads", "2"]));
    assert_eq!(code, 0, "{stdout:#?}");
    let lines: Vec<_> = stdout.iter().take_while(|line| line.contains(" s ")).collect();
    // Of 200 ms, if the machine is not busy, and a rest.
    assert!((2..=6).contains(&lines.len()), "{stdout:#?}");
    for line in lines {
        for part in [" messages/s ", "B/s  p50 ", "  p99 ", "  max "] {
            assert!(line.contains(part), "no {part:?} in {line:?}");
        }
    }
}

#[test]
fn intervals_in_json_and_in_the_log_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latency.hlog");
    for load in [&["--rate", "2000"][..], &["--threads", "2"], &["-c", "2", "--pipeline", "4"]] {
        let mut command = bench(server(|_| {}), &["--interval", "50ms", "--json", "--hdr"]);
        let (code, stdout, stderr) = run(command.arg(&path).args(load));
        assert_eq!((code, stderr), (0, vec![]), "{stdout:?}");
        let json: Value = serde_json::from_str(&stdout[0]).unwrap();
        let intervals = json["intervals"].as_array().unwrap();
        let messages: u64 = intervals.iter().map(|i| i["messages"].as_u64().unwrap()).sum();
        assert_eq!(messages, json["messages"].as_u64().unwrap());

        let log = fs::read(&path).unwrap();
        let mut total = Histogram::<u64>::new(3).unwrap();
        let mut count = 0;
        for entry in IntervalLogIterator::new(&log) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = base64(interval.encoded_histogram());
                let part: Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                total.add(part).unwrap();
                count += 1;
            }
        }
        assert_eq!(count, intervals.len());
        // Late replies are in the log, and are no messages of the measurement: on a busy
        // machine, a thread may send until long after its end.
        assert!(total.len() >= messages, "{} in the log, {messages} in all", total.len());
        let max = json["latency_ns"]["max"].as_u64().unwrap();
        assert!(total.equivalent(total.max(), max), "{} {max}", total.max());
    }
    let missing = folder.path().join("missing/latency.hlog");
    let (code, _, stderr) = run(bench(server(|_| {}), &["--hdr"]).arg(&missing));
    let text = cli::error::without_errno(&fs::read(&missing).unwrap_err());
    let expected = format!("echo-bench: cannot write {}: {text}; see --hdr", missing.display());
    assert_eq!((code, stderr), (1, vec![expected]));
}

/// Decodes base64, which the reader of logs leaves to its caller.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|c| DIGITS.iter().position(|digit| *digit == c));
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_usize, 0);
    for digit in digits {
        bits = bits << 6 | digit;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn number_of_messages_is_exact() {
    let addr = server(|_| {});
    for load in [
        &["-c", "1"][..],
        &["-c", "7", "-P", "16"],
        &["-c", "3", "--threads", "2"],
        &["-c", "3", "--churn"],
        &["-c", "3", "--rate", "20k"],
        &["-c", "5", "--rate", "20k", "--spacing", "poisson", "--threads", "2"],
        // More connections than messages.
        &["-c", "200", "--threads", "150"],
        &["-c", "200", "--rate", "20k"],
    ] {
        let mut command = command(BENCH);
        command.args([&addr.to_string(), "-n", "101", "--idle", "3", "--json"]).args(load);
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!((code, stderr), (0, vec![]), "{load:?}: {stdout:?}");
        assert!(stdout[0].contains("\"messages\":101,"), "{load:?}: {stdout:?}");
    }
}

/// `script` runs the program on a terminal.
#[cfg(unix)] // device files
#[test]
fn live_line_is_shown_on_a_terminal_only() {
    let addr = server(|_| {}).to_string();
    let line = |options: &str| {
        let line = format!("{BENCH} {addr} -c 2 -z 1500ms --interval 300ms {options}");
        let line = format!("stty rows 24 columns 60; {line}");
        run(command("script").args(["-qec", &line, "/dev/null"]))
    };
    if !command("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        report_skip("script (of util-linux) is not available");
        return;
    }
    let (code, stdout, _) = line("");
    let text = stdout.join("\n");
    assert_eq!(code, 0, "{text}");
    for part in ["s left", "messages/s", "p99", "all replies were correct"] {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
    // It fits: what is drawn between two carriage returns or escape sequences.
    let drawn = text.split(['\r', '\n', '\u{1b}']).filter(|part| part.contains("s left"));
    let widths: Vec<_> = drawn.map(|part| part.chars().count()).collect();
    assert!(widths.iter().all(|width| *width <= 60 + "[2K".len()), "{widths:?} in {text:?}");
    let (code, stdout, _) = line("--quiet");
    let text = stdout.join("\n");
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("s left"), "{text:?}");
}
