//! The page of a failing run, in a browser.

use std::fs;
use std::panic::catch_unwind;
use std::process::Command;

use sim::{Fault, Faults, Link, ScenarioResult, Sim, check, trace_page};

use crate::common::{Log, MINUTE, On, SECOND, add_client, add_server, echo, passive};

/// A client whose writes are short says hello to a server, whose machine pauses; and then
/// something is not as it should be.
fn scenario(sim: &mut Sim) -> ScenarioResult {
    sim.set_link(Link::default().with_latency(SECOND / 10, SECOND / 100));
    sim.set_faults(Faults::none().with(Fault::ShortWrite, 1_000_000).with(Fault::Pause, 300_000));
    let log = Log::new();
    add_server(sim, &log, echo);
    let mut returned = 0;
    add_client(sim, &log, move |on, io| match on {
        On::Connect => io.send(b"hello <b>world</b>"),
        On::Read(data) => {
            returned += data.len();
            if returned == 18 {
                io.close();
            }
            Ok(())
        }
        _ => passive(on, io),
    });
    sim.chaos(5 * SECOND)?;
    sim.rest(MINUTE)?;
    Err("<i>nothing</i> is wrong & it fails".into())
}

/// Opens `page` in Chromium, and returns the lines of `measure.js`, which is appended to it.
/// Returns `None`, and reports the skip, if Chromium is not installed.
fn measure(page: &str, is_dark: bool) -> Option<Vec<String>> {
    if !testing::is_installed("chromium", "--version") {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.html");
    // An error of a script is a line too.
    let catch = "<script>addEventListener('error', (event) => document.documentElement\
                 .append('script ' + 'error: ' + event.message))</script>";
    let page = page.replacen("<script>", &format!("{catch}<script>"), 1);
    let measure = include_str!("measure.js");
    fs::write(&file, page + "<script>" + measure + "</script>").unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark)))
        .arg(format!("--user-data-dir={}", directory.path().display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    assert!(!dom.contains("script error: "), "{}", dom.split("script error: ").last().unwrap());
    let measured = dom.split("<pre id=\"measured\">").nth(1);
    let (measured, _) = measured.and_then(|rest| rest.split_once("</pre>")).unwrap_or_else(|| {
        panic!("no page is shown: {}{dom}", String::from_utf8_lossy(&output.stderr))
    });
    let text = measured.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn page_of_a_failing_run_is_readable_in_a_browser() {
    let page = trace_page(3, "try --seed 3", scenario);
    for remote in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(remote), "the page loads something: {remote}");
    }
    let Some(lines) = measure(&page, false) else { return };
    let values = |name: &str| -> Vec<&str> {
        let prefix = format!("{name}: ");
        lines.iter().filter_map(|line| line.strip_prefix(&prefix)).collect()
    };
    assert_eq!(values("column"), ["server 10.0.0.1", "client 10.0.0.2"]);
    let verdict = "Failed: <i>nothing</i> is wrong & it fails";
    assert_eq!(values("verdict"), [verdict, verdict]);
    assert_eq!(values("again"), ["try --seed 3"]);
    assert_eq!(values("text is"), ["dark"]);
    for fact in [
        "columns are above their lanes",
        "columns are apart",
        "lanes reach the end",
        "arrows connect two lanes",
        "labels are within their arrows",
        "rows go down",
        "times go up",
        "verdict is below",
        "page fits",
        "system calls",
        "without system calls",
        "with a text",
        "of one machine",
        "of all machines",
    ] {
        assert_eq!(values(fact), ["true"], "{fact}: {lines:#?}");
    }
    let (arrows, faults) = (values("arrow"), values("fault"));
    assert_eq!(arrows[..2], ["right connected", "left handshake"]);
    assert!(arrows.contains(&"left end") && arrows.contains(&"right end"), "{arrows:?}");
    let hello = |arrow: &&&str| arrow.contains("bytes \"hello");
    assert!(arrows.iter().filter(hello).count() > 0, "{arrows:?}");
    assert!(faults.contains(&"short write"), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("pause for ")), "{faults:?}");

    let dark = measure(&page, true).unwrap();
    assert!(dark.contains(&"text is: light".to_owned()), "{dark:#?}");
}

#[test]
fn a_test_that_fails_names_its_page() {
    let failed = catch_unwind(|| check(3..5, scenario)).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    let test = "page::a_test_that_fails_names_its_page";
    let command = format!("SIM_SEED=3 cargo test -p sim {test}");
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "2 of 2 seeds failed; seed 3: <i>nothing</i> is wrong & it fails",
            &format!("run it again: {command}")
        ]
    );
    let path = lines[2].strip_prefix("what happened: ").unwrap();
    let page = fs::read_to_string(path).unwrap();
    assert!(page.contains(&format!("<code>{command}</code>")), "{page}");
    fs::remove_file(path).unwrap();
}
