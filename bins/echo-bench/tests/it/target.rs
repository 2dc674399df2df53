//! Names with several addresses.

use std::net::TcpListener;

use testing::{HostsFile, report_skip, run};

use crate::{BENCH, serve};

#[test]
fn each_address_of_a_name_is_tried() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        report_skip(format_args!("no IPv6 here: {error}"));
        return;
    }
    let addresses = ["::1", "127.0.0.1"].map(|address| address.parse().unwrap());
    let Some(hosts) = HostsFile::new("several.test", &addresses) else { return };
    for address in addresses {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let peer = peer.unwrap();
                std::thread::spawn(move || serve(peer, &|_| {}));
            }
        });
        for mode in [&[][..], &["--churn"], &["--threads", "2", "--idle", "3"]] {
            let mut command = hosts.command(BENCH);
            command.args(["--addr", &format!("several.test:{port}"), "--connections", "4"]);
            command.args(["--warm-up", "20ms", "--duration", "100ms"]).args(mode);
            let (code, stdout, stderr) = run(&mut command);
            assert_eq!((code, stderr), (0, vec![]), "{address} {mode:?}: {stdout:#?}");
        }
    }
}
