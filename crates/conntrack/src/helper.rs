//! Where do FTP's commands and answers announce a connection? (RFC 959 §4.1.2, RFC 2428)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Helper for FTP, named by the port of its control connection.
pub(crate) const FTP: u16 = 21;
/// Helper for TFTP (RFC 1350).
pub(crate) const TFTP: u16 = 69;

/// Longest line that is looked at.
const LONGEST: usize = 256;

/// How an announcement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `h1,h2,h3,h4,p1,p2` of PORT and 227.
    Numbers,
    /// `|1|10.0.0.1|2000|` of EPRT.
    Extended,
    /// `|||2000|` of 229.
    PortOnly,
}

/// An announced end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) form: Form,
    /// Address, unless the form has none.
    pub(crate) addr: Option<IpAddr>,
    pub(crate) port: u16,
    /// Bytes of the payload that say so.
    pub(crate) text: Range<usize>,
}

impl Announcement {
    /// The text that announces another address and port instead.
    pub(crate) fn rewritten(&self, addr: IpAddr, port: u16) -> String {
        match (self.form, addr) {
            (Form::Numbers, IpAddr::V4(a)) => {
                let [a, b, c, d] = a.octets();
                format!("{a},{b},{c},{d},{},{}", port >> 8, port & 0xff)
            }
            (Form::Extended, IpAddr::V4(a)) => format!("|1|{a}|{port}|"),
            (Form::Extended, IpAddr::V6(a)) => format!("|2|{a}|{port}|"),
            (Form::PortOnly | Form::Numbers, _) => format!("|||{port}|"),
        }
    }
}

/// What the first line of a payload announces: a command when `reply` is false, else an answer.
pub(crate) fn ftp(payload: &[u8], reply: bool) -> Option<Announcement> {
    let line = payload.get(..payload.len().min(LONGEST))?;
    let end = line.iter().position(|b| *b == b'\r' || *b == b'\n')?;
    let line = std::str::from_utf8(&line[..end]).ok()?;
    let starts = |word: &str| line.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word));
    if !reply && starts("PORT ") {
        numbers(line, 5)
    } else if !reply && starts("EPRT ") {
        extended(line, 5)
    } else if reply && starts("227 ") {
        // The text between the code and the numbers is free (RFC 1123 §4.1.2.6).
        let at = line.char_indices().skip(4).find(|(_, c)| c.is_ascii_digit())?.0;
        numbers(line, at)
    } else if reply && starts("229 ") {
        let at = line.find('(')? + 1;
        extended(line, at).filter(|a| a.form == Form::PortOnly)
    } else {
        None
    }
}

fn numbers(line: &str, at: usize) -> Option<Announcement> {
    let rest = line.get(at..)?;
    let len = rest.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(rest.len());
    let parts: Vec<u8> = rest[..len].split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, high, low] = *parts.as_slice() else { return None };
    let port = u16::from_be_bytes([high, low]);
    let addr = Some(Ipv4Addr::new(a, b, c, d).into());
    (port != 0).then_some(Announcement { form: Form::Numbers, addr, port, text: at..at + len })
}

fn extended(line: &str, at: usize) -> Option<Announcement> {
    let rest = line.get(at..)?;
    let mark = rest.chars().next().filter(char::is_ascii_graphic)?;
    let mut parts = rest[mark.len_utf8()..].split(mark);
    let (family, addr, port) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let len = family.len() + addr.len() + port.len() + 4 * mark.len_utf8();
    let port = port.parse().ok().filter(|p| *p != 0)?;
    let (form, addr) = match family {
        "" if addr.is_empty() => (Form::PortOnly, None),
        "1" => (Form::Extended, Some(addr.parse::<Ipv4Addr>().ok()?.into())),
        "2" => (Form::Extended, Some(addr.parse::<Ipv6Addr>().ok()?.into())),
        _ => return None,
    };
    Some(Announcement { form, addr, port, text: at..at + len })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Address, port and the text that says so.
    type Said = Option<(&'static str, u16, &'static str)>;

    #[test]
    fn announcements() {
        let cases: [(&str, bool, Said); 12] = [
            ("PORT 10,0,0,1,7,208\r\n", false, Some(("10.0.0.1", 2000, "10,0,0,1,7,208"))),
            ("port 10,0,0,1,7,208\r\n", false, Some(("10.0.0.1", 2000, "10,0,0,1,7,208"))),
            ("PORT 10,0,0,1,7\r\n", false, None),
            ("PORT 10,0,0,256,7,208\r\n", false, None),
            ("PORT 10,0,0,1,7,208", false, None),
            ("PORT 10,0,0,1,7,208\r\n", true, None),
            (
                "227 Entering Passive Mode (10,0,0,2,7,209).\r\n",
                true,
                Some(("10.0.0.2", 2001, "10,0,0,2,7,209")),
            ),
            ("EPRT |1|10.0.0.1|2000|\r\n", false, Some(("10.0.0.1", 2000, "|1|10.0.0.1|2000|"))),
            ("EPRT |2|fd00::1|2000|\r\n", false, Some(("fd00::1", 2000, "|2|fd00::1|2000|"))),
            ("EPRT |3|fd00::1|2000|\r\n", false, None),
            ("229 Entering Extended Passive Mode (|||2002|)\r\n", true, Some(("", 2002, "|||2002|"))),
            ("229 Entering Extended Passive Mode (|||70000|)\r\n", true, None),
        ];
        for (line, reply, expected) in cases {
            let found = ftp(line.as_bytes(), reply);
            let short = found.as_ref().map(|a| {
                (a.addr.map_or(String::new(), |x| x.to_string()), a.port, line[a.text.clone()].to_owned())
            });
            let expected = expected.map(|(a, p, t)| (a.to_owned(), p, t.to_owned()));
            assert_eq!(short, expected, "{line:?}");
            if let Some(found) = found {
                let same = found.addr.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                assert_eq!(found.rewritten(same, found.port), line[found.text.clone()]);
            }
        }
    }
}
