//! PURE. HTTP as far as it decides: what to ask for with what is here, and what an answer means for it (RFC 9110 13, 14).

use super::incoming::Mark;
use super::journal::{Chance, Step, Trouble};
use crate::config::{Address, Scheme};
use reqwest::Url;
use std::time::Duration;

/// More of them is a loop.
pub(super) const REDIRECTS: usize = 5;

/// What is half here, and what was taken last.
#[derive(Clone, Debug, Default)]
pub(super) struct Have {
    pub held: u64,
    pub part: Option<Mark>,
    pub taken: Option<Mark>,
    /// The whole will be held against a digest, so a rest is asked for without proof that it belongs to what is here.
    pub vouched: bool,
}

impl Have {
    /// A part is here, and its rest can be asked for.
    fn can_go_on(&self) -> bool {
        self.held > 0 && self.part.as_ref().is_some_and(|part| part.proves() || self.vouched)
    }
}

/// The head of an answer, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub status: u16,
    pub etag: Option<String>,
    pub modified: Option<String>,
    pub length: Option<u64>,
    pub range: Option<String>,
    pub encoding: Option<String>,
    pub retry_after: Option<Duration>,
}

/// What the answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The archive that was taken last lies there still.
    Unchanged,
    /// The body is the archive.
    Whole,
    /// The body is what is missing.
    Rest { total: u64 },
    /// What is here is the whole archive already.
    Complete,
    /// What is here does not belong to it: ask again without.
    Again,
}

/// Header lines beyond the usual ones.
#[must_use]
pub(super) fn ask(have: &Have) -> Vec<(&'static str, String)> {
    if let Some(part) = have.part.as_ref().filter(|_| have.can_go_on()) {
        let proof = part.strong_etag().map(str::to_owned).or_else(|| part.modified.clone());
        let range = ("range", format!("bytes={}-", have.held));
        return std::iter::once(range).chain(proof.map(|proof| ("if-range", proof))).collect();
    }
    let Some(taken) = &have.taken else { return Vec::new() };
    // If-None-Match is the stronger one; with both a server ignores the other (RFC 9110 13.1.3).
    let etag = taken.etag.clone().map(|etag| ("if-none-match", etag));
    let modified = taken.modified.clone().map(|modified| ("if-modified-since", modified));
    etag.into_iter().chain(modified).collect()
}

/// # Errors
/// When the answer is none that brings an archive.
pub(super) fn judge(head: &Head, have: &Have, most: u64) -> Result<Verdict, Trouble> {
    let ask = |problem: String| Trouble::new(Step::Ask, problem);
    let asked_for_rest = have.can_go_on();
    match head.status {
        304 if have.taken.is_some() && !asked_for_rest => Ok(Verdict::Unchanged),
        200 => {
            plain(head)?;
            if let Some(length) = head.length {
                fits(length, most)?;
            }
            Ok(Verdict::Whole)
        }
        206 if asked_for_rest => {
            plain(head)?;
            let range = head.range.as_deref().and_then(content_range);
            let Some((first, last, total)) = range else {
                return Err(ask("a part was sent without a Content-Range that tells which".to_owned()));
            };
            fits(total, most)?;
            let part = have.part.as_ref().expect("asked_for_rest: a part is here");
            let same = same_archive(part, head) && part.size.is_none_or(|size| size == total);
            if !same || first != have.held {
                return Ok(Verdict::Again);
            }
            if last + 1 != total || head.length.is_some_and(|length| length != total - first) {
                return Err(ask(format!("a part was sent that does not reach the end: {first}-{last} of {total}")));
            }
            Ok(Verdict::Rest { total })
        }
        416 if asked_for_rest => {
            let total =
                head.range.as_deref().and_then(|range| range.strip_prefix("bytes */")?.trim().parse::<u64>().ok());
            let part = have.part.as_ref().expect("asked_for_rest: a part is here");
            Ok(if total == Some(have.held) && part.size == total && same_archive(part, head) {
                Verdict::Complete
            } else {
                Verdict::Again
            })
        }
        status => Err(Trouble { retry_after: head.retry_after, ..refusal(status) }),
    }
}

/// What both tell is equal: a server may leave out what the question had.
fn same_archive(part: &Mark, head: &Head) -> bool {
    let equal = |here: Option<&str>, now: &Option<String>| match (here, now.as_deref()) {
        (Some(here), Some(now)) => here == now,
        _ => true,
    };
    match part.strong_etag() {
        Some(etag) => equal(Some(etag), &head.etag),
        None => equal(part.modified.as_deref(), &head.modified),
    }
}

/// `Retry-After`: seconds, or a date, which is compared with the server's own `Date`: its clock need not be ours.
#[must_use]
pub(super) fn retry_after(told: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let told = told?;
    let seconds = match told.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => u64::try_from(seconds_of(told)? - seconds_of(date?)?).unwrap_or(0),
    };
    Some(Duration::from_secs(seconds))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7) in seconds since 1970.
fn seconds_of(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = i64::try_from(MONTHS.iter().position(|known| *known == month)?).ok()? + 1;
    let (day, year) =
        (day.parse::<i64>().ok()?, year.parse::<i64>().ok().filter(|year| (1970..10_000).contains(year))?);
    let time: Vec<i64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = time[..] else { return None };
    // The year begins in March, so that the day that is sometimes there is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn plain(head: &Head) -> Result<(), Trouble> {
    match head.encoding.as_deref() {
        None | Some("identity" | "") => Ok(()),
        // Sizes, ranges and digests are those of the packed bytes then, and a bomb is one line of a configuration.
        Some(other) => {
            Err(Trouble::new(Step::Ask, format!("the server packs the archive once more (content-encoding {other})"))
                .help("turn compression off for archives at the server"))
        }
    }
}

fn fits(length: u64, most: u64) -> Result<(), Trouble> {
    if length <= most {
        return Ok(());
    }
    Err(Trouble::new(Step::Ask, format!("the archive has {length} bytes, {most} are allowed"))
        .help("max_mb of the source sets the limit; of an update, the size that the cloud told")
        .chance(Chance::Slim))
}

fn refusal(status: u16) -> Trouble {
    let remedy = match status {
        401 | 407 => "check user and password",
        403 => "the account may not read it, or the server wants a client certificate",
        404 | 410 => "check the path in url; nothing has been put there yet",
        429 | 503 => "the server is busy; it is asked again after the back-off",
        _ => "",
    };
    Trouble::new(Step::Ask, format!("the server answers with http status {status}")).help(remedy)
}

/// `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (first.trim().parse().ok()?, last.trim().parse().ok()?, total.trim().parse().ok()?);
    (first <= last && last < total).then_some((first, last, total))
}

/// # Errors
/// When a redirect leads to a host that nobody named.
pub(super) fn may_follow(source: &Address, to: &Address, hosts: &[String]) -> Result<(), Trouble> {
    if to.host == source.host || hosts.contains(&to.host) {
        return Ok(());
    }
    Err(Trouble::new(Step::Ask, format!("redirect refused: it leads to another host, {}", to.host))
        .help("if that host is to be trusted write its name into redirect_hosts of the source, or hosts of update:")
        .chance(Chance::Forbidden))
}

/// Where a redirect leads.
///
/// # Errors
/// When it leads out of encryption, or to another protocol.
pub(super) fn redirected(from: &Address, location: Option<&str>) -> Result<Address, Trouble> {
    let refuse =
        |problem: &str| Trouble::new(Step::Ask, format!("redirect refused: {problem}")).chance(Chance::Forbidden);
    let location = location.ok_or_else(|| refuse("it says not where to"))?;
    let base = format!("{}://{}{}", from.scheme.word(), from.authority(), from.path);
    let mut url =
        Url::parse(&base).and_then(|base| base.join(location)).map_err(|_| refuse("its address can not be read"))?;
    url.set_fragment(None);
    let to = Address::parse(url.as_str()).map_err(|problem| refuse(&problem))?;
    match (from.scheme, to.scheme) {
        (Scheme::Https, Scheme::Http) => Err(refuse("it leads from https to http")
            .help("let the server redirect to https, or write the final address in url")),
        (_, Scheme::Http | Scheme::Https) => Ok(to),
        (_, other) => Err(refuse(&format!("it leads to {}", other.word()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(etag: &str, held: u64) -> Have {
        let mark = Mark { etag: Some(etag.to_owned()), size: Some(100), ..Mark::default() };
        Have { held, part: Some(mark), ..Have::default() }
    }

    fn head(status: u16, etag: &str, range: &str) -> Head {
        let range = (!range.is_empty()).then(|| range.to_owned());
        Head { status, etag: Some(etag.to_owned()), range, ..Head::default() }
    }

    #[test]
    fn a_part_is_asked_for_with_its_proof_and_never_without() {
        assert_eq!(ask(&part("\"1\"", 40)), [("range", "bytes=40-".to_owned()), ("if-range", "\"1\"".to_owned())]);
        assert!(ask(&part("W/\"1\"", 40)).is_empty(), "a weak etag proves no byte");
        let taken = Mark { etag: Some("W/\"1\"".to_owned()), modified: Some("then".to_owned()), ..Mark::default() };
        let asked = ask(&Have { taken: Some(taken), ..Have::default() });
        assert_eq!(asked.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["if-none-match", "if-modified-since"]);
    }

    #[test]
    fn only_the_missing_bytes_of_the_same_archive_are_appended() {
        let have = part("\"1\"", 40);
        let rest = |etag: &str, range: &str| judge(&head(206, etag, range), &have, 1000);
        assert_eq!(rest("\"1\"", "bytes 40-99/100").unwrap(), Verdict::Rest { total: 100 });
        assert_eq!(rest("\"2\"", "bytes 40-99/100").unwrap(), Verdict::Again, "another archive");
        assert_eq!(rest("\"1\"", "bytes 40-100/101").unwrap(), Verdict::Again, "another size");
        assert_eq!(rest("\"1\"", "bytes 39-99/100").unwrap(), Verdict::Again, "another place");
        for bad in ["", "bytes 40-98/100", "bytes 40-99/*", "bytes 99-40/100", "octets 40-99/100"] {
            assert!(rest("\"1\"", bad).is_err(), "{bad}");
        }
        assert!(
            judge(&head(206, "\"1\"", "bytes 0-99/100"), &Have::default(), 1000).is_err(),
            "nobody asked for a part"
        );
        assert_eq!(judge(&head(200, "\"2\"", ""), &have, 1000).unwrap(), Verdict::Whole, "a server without ranges");
        assert_eq!(judge(&head(416, "\"1\"", "bytes */100"), &part("\"1\"", 100), 1000).unwrap(), Verdict::Complete);
        assert_eq!(judge(&head(416, "\"1\"", "bytes */30"), &have, 1000).unwrap(), Verdict::Again);
    }

    #[test]
    fn too_large_packed_twice_and_unexpected_answers_are_refused() {
        let have = Have::default();
        assert!(judge(&Head { status: 200, length: Some(1001), ..Head::default() }, &have, 1000).is_err());
        assert!(
            judge(&Head { status: 200, encoding: Some("gzip".to_owned()), ..Head::default() }, &have, 1000).is_err()
        );
        assert!(judge(&Head { status: 304, ..Head::default() }, &have, 1000).is_err(), "nothing was taken yet");
        for status in [204, 301, 401, 404, 500] {
            assert!(judge(&Head { status, ..Head::default() }, &have, 1000).is_err(), "{status}");
        }
    }

    #[test]
    fn a_part_without_an_etag_is_proved_by_its_date() {
        let mark = Mark { modified: Some("then".to_owned()), size: Some(100), ..Mark::default() };
        let have = Have { held: 40, part: Some(mark), ..Have::default() };
        let rest = |modified: &str| {
            let range = Some("bytes 40-99/100".to_owned());
            judge(&Head { status: 206, modified: Some(modified.to_owned()), range, ..Head::default() }, &have, 1000)
        };
        assert_eq!(rest("then").unwrap(), Verdict::Rest { total: 100 });
        assert_eq!(rest("later").unwrap(), Verdict::Again);
    }

    #[test]
    fn a_server_says_when_it_may_be_asked_again_in_seconds_or_by_its_own_clock() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(seconds_of(date), Some(784_111_777));
        assert_eq!(seconds_of("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(retry_after(Some("120"), None), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(Some("Sun, 06 Nov 1994 09:49:37 GMT"), Some(date)), Some(Duration::from_secs(3600)));
        assert_eq!(retry_after(Some(date), Some("Sun, 06 Nov 1994 09:49:37 GMT")), Some(Duration::ZERO));
        for bad in ["-1", "soon", "Sun, 06 Nov 1994 GMT", "Sun, 06 Nox 1994 08:49:37 GMT", "1e9"] {
            assert_eq!(retry_after(Some(bad), Some(date)), None, "{bad}");
        }
        let busy = Head { status: 503, retry_after: Some(Duration::from_secs(7)), ..Head::default() };
        assert_eq!(judge(&busy, &Have::default(), 1).unwrap_err().retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_redirect_to_a_third_host_is_followed_only_when_it_is_named() {
        let (own, third) = (Address::parse("https://h/a").unwrap(), Address::parse("https://cdn/a").unwrap());
        assert!(may_follow(&own, &Address::parse("https://h:8443/b").unwrap(), &[]).is_ok());
        let trouble = may_follow(&own, &third, &["other".to_owned()]).unwrap_err();
        assert!(trouble.to_string().contains("cdn") && trouble.remedy.contains("redirect_hosts"), "{trouble}");
        assert!(may_follow(&own, &third, &["cdn".to_owned()]).is_ok());
    }

    #[test]
    fn a_redirect_never_leads_out_of_encryption() {
        let from = Address::parse("https://h/a/b.zip?x=1").unwrap();
        assert_eq!(redirected(&from, Some("../c.zip")).unwrap().to_string(), "https://h/c.zip");
        assert_eq!(redirected(&from, Some("//other:8443/c")).unwrap().to_string(), "https://other:8443/c");
        for bad in ["http://h/b.zip", "ftp://h/b.zip", "file:///etc/passwd", "https://u:p@h/"] {
            assert!(redirected(&from, Some(bad)).is_err(), "{bad}");
        }
        assert!(redirected(&from, None).is_err());
        assert!(redirected(&Address::parse("http://h/").unwrap(), Some("https://h/")).is_ok());
    }
}
