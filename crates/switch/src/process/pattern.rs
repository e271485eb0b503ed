//! How does a line of the log look? The patterns of `vlog/set PATTERN:destination:pattern` (ovs-appctl(8)).

use std::fmt;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How lines of a destination look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

/// What there is to tell of an event.
pub(super) struct Line<'a> {
    /// Running number.
    pub(super) number: u64,
    /// Module.
    pub(super) module: &'a str,
    /// Level, in capitals.
    pub(super) level: &'a str,
    /// What happened.
    pub(super) body: &'a str,
    /// When.
    pub(super) at: SystemTime,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }

    /// Of console, system log and file.
    pub(super) fn defaults() -> [Pattern; 3] {
        let with_time = "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c|%p|%m";
        [with_time, "weft: ovs|%05N|%c|%p|%m", with_time].map(Pattern::new)
    }

    /// Writes a line. What stands behind `%` and is none of the known letters is written as it is.
    pub(super) fn write(&self, line: &Line<'_>) -> String {
        let mut out = String::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let digits = rest.len() - rest.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()).len();
            let (format, behind) = rest.split_at(digits);
            let Some(letter) = behind.chars().next() else { return out };
            rest = &behind[letter.len_utf8()..];
            let mut argument = None;
            if let Some((inside, behind)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
                (argument, rest) = (Some(inside), behind);
            }
            pad(&mut out, format, &expand(letter, argument, line));
        }
        out.push_str(rest);
        out
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fills up to a width: `05`, `-10`.
fn pad(out: &mut String, format: &str, text: &str) {
    let left = format.starts_with('-');
    let digits = format.trim_start_matches('-');
    let width = digits.parse::<usize>().unwrap_or(0).min(1000);
    let _ = match (left, digits.starts_with('0')) {
        (true, _) => write!(out, "{text:<width$}"),
        (false, true) => write!(out, "{text:0>width$}"),
        (false, false) => write!(out, "{text:>width$}"),
    };
}

fn expand(letter: char, argument: Option<&str>, line: &Line<'_>) -> String {
    match letter {
        'A' => "weft".to_owned(),
        'c' => line.module.to_owned(),
        // The zone of the host is not asked for: both are UTC.
        'd' | 'D' => date(argument.unwrap_or("%Y-%m-%d %H:%M:%S.###"), line.at),
        'm' => line.body.to_owned(),
        'N' => line.number.to_string(),
        'n' => "\n".to_owned(),
        'p' => line.level.to_owned(),
        'P' => std::process::id().to_string(),
        't' | 'T' => match (argument.filter(|_| on_main()), letter) {
            (Some(name), _) => name.to_owned(),
            (None, 't') => thread(),
            (None, _) if on_main() => String::new(),
            (None, _) => format!("({})", thread()),
        },
        '%' => "%".to_owned(),
        other => format!("%{other}"),
    }
}

fn on_main() -> bool {
    std::thread::current().name() == Some("main")
}

fn thread() -> String {
    std::thread::current().name().unwrap_or("").to_owned()
}

/// A date in UTC by a subset of strftime(3), and `#` for digits of the fraction of the second.
fn date(format: &str, at: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let mut fraction = format!("{:09}", since.subsec_nanos()).into_bytes().into_iter();
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        let _ = match letter {
            '#' => write!(out, "{}", fraction.next().map_or('0', char::from)),
            '%' => match letters.next() {
                Some('Y') => write!(out, "{year:04}"),
                Some('m') => write!(out, "{month:02}"),
                Some('d') => write!(out, "{day:02}"),
                Some('e') => write!(out, "{day:>2}"),
                Some('b' | 'h') => write!(out, "{}", MONTHS[(month as usize + 11) % 12]),
                Some('H') => write!(out, "{h:02}"),
                Some('M') => write!(out, "{m:02}"),
                Some('S') => write!(out, "{s:02}"),
                Some('T') => write!(out, "{h:02}:{m:02}:{s:02}"),
                Some('s') => write!(out, "{}", since.as_secs()),
                Some(other) => write!(out, "%{other}"),
                None => write!(out, "%"),
            },
            other => write!(out, "{other}"),
        };
    }
    out
}

/// Date of a day counted from 1970-01-01 in the Gregorian calendar, by 400-year eras that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_follow_the_pattern() {
        let at = UNIX_EPOCH + Duration::from_millis(951_782_400_123);
        let line = Line { number: 7, module: "bridge", level: "WARN", body: "it is 100% so", at };
        let cases = [
            (
                "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c|%p|%m",
                "2000-02-29T00:00:00.123Z|00007|bridge|WARN|it is 100% so",
            ),
            ("%-8c|%8p|", "bridge  |    WARN|"),
            ("%d{%b %e %T} %%%n", "Feb 29 00:00:00 %\n"),
            ("%", ""),
            ("%q%1", "%q"),
            ("plain", "plain"),
        ];
        for (pattern, want) in cases {
            assert_eq!(Pattern::new(pattern).write(&line), want, "{pattern}");
        }
        let later = UNIX_EPOCH + Duration::from_secs(1_763_688_917);
        assert_eq!(date("%Y-%m-%dT%H:%M:%S.###Z", later), "2025-11-21T01:35:17.000Z");
    }
}
