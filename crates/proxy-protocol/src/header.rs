//! The header of the PROXY protocol, versions 1 and 2, as the specification in `HAProxy`
//! (`doc/proxy-protocol.txt`) describes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use reactor::Address;

/// The longest header of version 1, with its end of line.
const MAX_TEXT_LEN: usize = 107;

const TEXT_START: &[u8] = b"PROXY ";

const BINARY_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The start of a header of version 2, the command, the family and the length of the rest.
const BINARY_FIXED_LEN: usize = 16;

/// A header at the start of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// More bytes are needed.
    Incomplete,
    Complete {
        len: usize,
        /// `None` if the proxy opened the connection itself, or does not know.
        client: Option<Address>,
    },
}

/// Finds the header at the start of `data`.
///
/// # Errors
///
/// Returns what is wrong as soon as no further bytes can make it a header.
pub(crate) fn parse(data: &[u8]) -> Result<Header, &'static str> {
    if data.starts_with(&BINARY_START[..data.len().min(BINARY_START.len())]) {
        return parse_binary(data);
    }
    if data.starts_with(&TEXT_START[..data.len().min(TEXT_START.len())]) {
        return parse_text(data);
    }
    Err("it does not start with a PROXY header")
}

fn parse_text(data: &[u8]) -> Result<Header, &'static str> {
    let start = &data[..data.len().min(MAX_TEXT_LEN)];
    let Some(end) = start.iter().position(|&byte| byte == b'\n') else {
        let is_too_long = start.len() == MAX_TEXT_LEN;
        return if is_too_long {
            Err("the header has no end of line")
        } else {
            Ok(Header::Incomplete)
        };
    };
    let line = start[..end].strip_suffix(b"\r").ok_or("the header does not end with CR LF")?;
    let line = str::from_utf8(line).map_err(|_| "the header is not text")?;
    let words: Vec<_> = line.split(' ').collect();
    let client = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, destination, source_port, destination_port] => {
            destination.parse::<Ipv4Addr>().map_err(|_| "a wrong address")?;
            parse_port(destination_port)?;
            let source: Ipv4Addr = source.parse().map_err(|_| "a wrong address")?;
            Some((IpAddr::V4(source), parse_port(source_port)?))
        }
        ["PROXY", "TCP6", source, destination, source_port, destination_port] => {
            destination.parse::<Ipv6Addr>().map_err(|_| "a wrong address")?;
            parse_port(destination_port)?;
            let source: Ipv6Addr = source.parse().map_err(|_| "a wrong address")?;
            Some((IpAddr::V6(source), parse_port(source_port)?))
        }
        _ => return Err("the header has an unknown family, or not all fields"),
    };
    let client = client.map(|client| Address::from(SocketAddr::from(client)));
    Ok(Header::Complete { len: end + 1, client })
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    // `parse` would also accept a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a wrong port");
    }
    text.parse().map_err(|_| "a wrong port")
}

fn parse_binary(data: &[u8]) -> Result<Header, &'static str> {
    let Some(fixed) = data.get(..BINARY_FIXED_LEN) else {
        return match data.get(BINARY_START.len()) {
            Some(command) if command >> 4 != 2 => Err("an unknown version of the header"),
            _ => Ok(Header::Incomplete),
        };
    };
    let (command, family) = (fixed[12], fixed[13]);
    if command >> 4 != 2 {
        return Err("an unknown version of the header");
    }
    let len = BINARY_FIXED_LEN + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let is_local = match command & 0xf {
        0 => true,
        1 => false,
        _ => return Err("an unknown command in the header"),
    };
    let Some(addresses) = data.get(BINARY_FIXED_LEN..len) else { return Ok(Header::Incomplete) };
    // What follows the addresses (TLVs) is skipped.
    let client = match family {
        _ if is_local => None,
        0x00 => None,
        0x11 => {
            let ip: [u8; 4] = field(addresses, 0)?;
            field::<12>(addresses, 0)?;
            Some(inet(ip, field(addresses, 8)?))
        }
        0x21 => {
            let ip: [u8; 16] = field(addresses, 0)?;
            field::<36>(addresses, 0)?;
            Some(inet(ip, field(addresses, 32)?))
        }
        0x31 => {
            let path: [u8; 108] = field(addresses, 0)?;
            field::<216>(addresses, 0)?;
            Some(unix(&path))
        }
        _ => return Err("the header is for another kind of connection than a stream"),
    };
    Ok(Header::Complete { len, client })
}

fn inet(ip: impl Into<IpAddr>, port: [u8; 2]) -> Address {
    Address::from(SocketAddr::new(ip.into(), u16::from_be_bytes(port)))
}

fn unix(path: &[u8]) -> Address {
    let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
    // The proxy's, not ours: it is only shown.
    let path = String::from_utf8_lossy(path).into_owned();
    Address::Unix((!path.is_empty()).then(|| PathBuf::from(path)))
}

fn field<const LEN: usize>(data: &[u8], at: usize) -> Result<[u8; LEN], &'static str> {
    let field = data.get(at..at + LEN).and_then(|field| field.try_into().ok());
    field.ok_or("the header is too short for its addresses")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testing::fuzz;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with results")]
    fn complete(len: usize, client: Option<&str>) -> Result<Header, &'static str> {
        let client = client.map(|client| Address::from(client.parse::<SocketAddr>().unwrap()));
        Ok(Header::Complete { len, client })
    }

    #[test]
    fn text_headers() {
        let cases: [(&str, _); 14] = [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 5000 80\r\n", complete(43, Some("192.0.2.1:5000"))),
            (
                "PROXY TCP6 2001:db8::1 ::1 5000 80\r\nrest",
                complete(36, Some("[2001:db8::1]:5000")),
            ),
            ("PROXY UNKNOWN\r\n", complete(15, None)),
            ("PROXY UNKNOWN ffff::1 what ever\r\n", complete(33, None)),
            ("", Ok(Header::Incomplete)),
            ("PRO", Ok(Header::Incomplete)),
            ("PROXY TCP4 192.0.2.1", Ok(Header::Incomplete)),
            ("GET / HTTP/1.1\r\n", Err("it does not start with a PROXY header")),
            (
                "PROXY TCP4 192.0.2.1 198.51.100.1 5000 80\n",
                Err("the header does not end with CR LF"),
            ),
            ("PROXY TCP4 ::1 198.51.100.1 5000 80\r\n", Err("a wrong address")),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +500 80\r\n", Err("a wrong port")),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 65536 80\r\n", Err("a wrong port")),
            (
                "PROXY TCP4  192.0.2.1 198.51.100.1 5000 80\r\n",
                Err("the header has an unknown family, or not all fields"),
            ),
            (
                "PROXY UDP4 192.0.2.1 198.51.100.1 5000 80\r\n",
                Err("the header has an unknown family, or not all fields"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(MAX_TEXT_LEN));
        assert_eq!(parse(long.as_bytes()), Err("the header has no end of line"));
    }

    /// A header of version 2.
    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let len = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [BINARY_START, &[command, family], &len, addresses].concat()
    }

    #[test]
    fn binary_headers() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0x13, 0x88, 0, 80];
        assert_eq!(parse(&binary(0x21, 0x11, &v4)), complete(28, Some("192.0.2.1:5000")));
        // With a TLV of an unknown type, and with one that claims more than there is.
        for tlv in [&[0xee, 0, 3, 1, 2, 3][..], &[0xee, 0xff, 0xff]] {
            let header = binary(0x21, 0x11, &[&v4, tlv].concat());
            assert_eq!(parse(&header), complete(28 + tlv.len(), Some("192.0.2.1:5000")));
        }
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 7;
        assert_eq!(parse(&binary(0x21, 0x21, &v6)), complete(52, Some("[::1]:7")));
        let mut path = [0; 216];
        path[..4].copy_from_slice(b"/run");
        let client = Some(Address::Unix(Some("/run".into())));
        assert_eq!(parse(&binary(0x21, 0x31, &path)), Ok(Header::Complete { len: 232, client }));
        // A health check, and an unknown client.
        assert_eq!(parse(&binary(0x20, 0x11, &v4)), complete(28, None));
        assert_eq!(parse(&binary(0x20, 0, &[])), complete(16, None));
        assert_eq!(parse(&binary(0x21, 0, &[1, 2, 3])), complete(19, None));

        let short = Err("the header is too short for its addresses");
        assert_eq!(parse(&binary(0x21, 0x11, &v4[..11])), short);
        assert_eq!(parse(&binary(0x21, 0x21, &v6[..35])), short);
        assert_eq!(parse(&binary(0x21, 0x31, &path[..215])), short);
        assert_eq!(parse(&binary(0x11, 0x11, &v4)), Err("an unknown version of the header"));
        assert_eq!(parse(&binary(0x22, 0x11, &v4)), Err("an unknown command in the header"));
        let other = Err("the header is for another kind of connection than a stream");
        assert_eq!(parse(&binary(0x21, 0x12, &v4)), other);
    }

    fn header() -> impl Strategy<Value = Vec<u8>> {
        let port = any::<u16>;
        prop_oneof![
            (any::<Ipv4Addr>(), any::<Ipv4Addr>(), port(), port()).prop_map(|(a, b, c, d)| {
                format!("PROXY TCP4 {a} {b} {c} {d}\r\n").into_bytes()
            }),
            (any::<Ipv6Addr>(), any::<Ipv6Addr>(), port(), port()).prop_map(|(a, b, c, d)| {
                format!("PROXY TCP6 {a} {b} {c} {d}\r\n").into_bytes()
            }),
            (0x20..0x22_u8, 0..0x33_u8, prop::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(command, family, rest)| binary(command, family, &rest)),
        ]
    }

    #[test]
    fn fuzz_result_does_not_depend_on_how_much_has_arrived() {
        let change = any::<Option<(prop::sample::Index, u8)>>();
        let rest = prop::collection::vec(any::<u8>(), 0..20);
        fuzz((header(), change, rest), |(header, change, rest)| {
            let mut data = [header, rest].concat();
            if let Some((at, byte)) = change {
                let at = at.index(data.len());
                data[at] = byte;
            }
            let whole = parse(&data);
            let first = (0..=data.len())
                .map(|len| (len, parse(&data[..len])))
                .find(|(_, result)| *result != Ok(Header::Incomplete));
            match first {
                None => prop_assert_eq!(whole, Ok(Header::Incomplete)),
                Some((len, result)) => {
                    if let Ok(Header::Complete { len: end, .. }) = &result {
                        prop_assert_eq!(*end, len, "no byte more than needed");
                    }
                    prop_assert_eq!(whole, result);
                }
            }
            Ok(())
        });
    }

    #[test]
    fn fuzz_random_bytes_never_panic() {
        let start = prop::sample::select(vec![&b""[..], TEXT_START, BINARY_START]);
        let rest = prop::collection::vec(any::<u8>(), 0..300);
        fuzz((start, rest), |(start, rest)| {
            let _ = parse(&[start, &rest].concat());
            Ok(())
        });
    }
}
