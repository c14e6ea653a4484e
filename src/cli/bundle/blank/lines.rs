//! PURE. Lines of text without what is a secret by its place: values of names, accounts and queries of addresses, private keys,
//! what programs are given on their command line, tokens of headers.

use super::BLANK;
use super::names::{is_header, is_secret_word};
use super::value::{Reach, name_before, value};

const KEY: &str = "(private key removed)";
/// Letters of a line that is a part of a key, where something else stands before it.
const KEY_LINE: usize = 40;
/// A list or block that is not closed by then is none.
const LONGEST: usize = 200;

/// Of an argument in quotes.
const ARGUMENT: usize = 1024;

/// What of the lines before goes on.
enum Open {
    Nothing,
    /// A private key.
    Key,
    /// Of a secret's value, brackets.
    Brackets(usize),
    /// Of a secret's value, lines that are indented more than this.
    Block(usize),
}

/// A text of many lines.
pub(in super::super) fn text(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let (mut open, mut since) = (Open::Nothing, 0);
    let mut lines = text.lines().peekable();
    while let Some(each) = lines.next() {
        since += 1;
        let goes_on = since <= LONGEST
            && match &mut open {
                Open::Nothing => false,
                Open::Key => {
                    let last = lines.peek().is_some_and(|next| next.contains("-----END"));
                    each.contains("-----END") || is_of_key(each, last)
                }
                Open::Brackets(depth) => {
                    let closed = each.chars().filter(|c| "]})".contains(*c)).count();
                    *depth = (*depth + each.chars().filter(|c| "[{(".contains(*c)).count()).saturating_sub(closed);
                    true
                }
                Open::Block(indent) => each.trim().is_empty() || indent_of(each) > *indent,
            };
        if goes_on {
            let over = match open {
                Open::Key => each.contains("-----END"),
                Open::Brackets(depth) => depth == 0,
                Open::Block(_) | Open::Nothing => false,
            };
            open = if over { Open::Nothing } else { open };
            continue;
        }
        if is_end_of_key(each) {
            // Its beginning was cut off.
            while out.last().is_some_and(|line| is_of_key(line, false)) {
                out.pop();
            }
            out.push(KEY.to_owned());
            open = Open::Nothing;
            continue;
        }
        let (line, after) = cleaned(each);
        out.push(line);
        (open, since) = (after, 0);
    }
    out.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// One line.
pub(in super::super) fn line(line: &str) -> String {
    cleaned(line).0
}

fn cleaned(line: &str) -> (String, Open) {
    let (line, in_key) = keys(line);
    let (line, open) = assigned(&tokens(&arguments(&addresses(&line))));
    (line, if in_key { Open::Key } else { open })
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

/// A line between BEGIN and END, alone or behind what a log writes before it; `last`: the next one is the END.
fn is_of_key(line: &str, last: bool) -> bool {
    let word = line.split_whitespace().next_back().unwrap_or_default();
    let headers = ["Proc-Type:", "DEK-Info:"].iter().any(|header| line.contains(header));
    let alone = line.trim() == word;
    headers || word.is_empty() || is_base64(word) && (alone || last || word.len() >= KEY_LINE)
}

fn is_end_of_key(line: &str) -> bool {
    let end = line.find("-----END").filter(|at| line[*at..].contains("PRIVATE KEY"));
    end.is_some_and(|at| !line[..at].contains("-----BEGIN"))
}

/// Without private keys; whether one goes on in the next line.
fn keys(line: &str) -> (String, bool) {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find("-----BEGIN") {
        let (before, key) = rest.split_at(at);
        let head = key["-----BEGIN".len()..].find("-----").map_or(key.len(), |at| at + "-----BEGIN".len());
        if !key[..head].contains("PRIVATE KEY") {
            out.push_str(&rest[..at + head]);
            rest = &key[head..];
            continue;
        }
        out.push_str(before);
        out.push_str(KEY);
        let Some(end) = key.find("-----END") else { return (out, true) };
        let tail = &key[end + "-----END".len()..];
        rest = tail.find("-----").map_or("", |at| &tail[at + "-----".len()..]);
    }
    out.push_str(rest);
    (out, false)
}

/// `scheme://user:password@host/path?query` keeps scheme, host and path; `user:password@host` and `/path?query` the same.
fn addresses(line: &str) -> String {
    let ends = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
    let mut out = String::with_capacity(line.len());
    for word in line.split_inclusive(ends) {
        let body = word.trim_end_matches(ends);
        address(body, &mut out);
        out.push_str(&word[body.len()..]);
    }
    out
}

fn address(word: &str, out: &mut String) {
    // In JSON a slash may be escaped.
    let scheme = ["://", ":\\/\\/"].iter().filter_map(|mark| Some(word.find(mark)? + mark.len())).min();
    let (before, rest) = word.split_at(scheme.unwrap_or(0));
    out.push_str(before);
    let authority = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    // A password may hold what ends an authority: the last @ of the whole counts when it comes with a colon.
    let account = match rest[..authority].rfind('@') {
        Some(at) if scheme.is_some() => Some(at),
        _ => rest.rfind('@').filter(|at| rest[..*at].contains(':')),
    };
    let account = account.filter(|at| scheme.is_some() || is_account(&rest[..*at], &rest[at + 1..]));
    let host = account.map_or(rest, |at| &rest[at + 1..]);
    if account.is_some() {
        out.push_str(BLANK);
        out.push('@');
    }
    let query = host.find('?').filter(|at| scheme.is_some() || host[..*at].contains('/') && host[*at..].contains('='));
    let cut = query.or_else(|| host.find('#').filter(|at| scheme.is_some() && host[*at..].contains('=')));
    match cut {
        Some(at) => {
            out.push_str(&host[..=at]);
            out.push_str(BLANK);
        }
        None => out.push_str(host),
    }
}

/// `user:password` in front of a host, where no scheme says so.
fn is_account(account: &str, host: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "_.-".contains(c);
    account.split_once(':').is_some_and(|(user, password)| {
        !user.is_empty()
            && user.chars().all(plain)
            && !password.is_empty()
            && host.starts_with(|c: char| c.is_alphanumeric())
    })
}

/// `--password x`, `-u user:password`, `sshpass -p x`, `mosquitto_pub -P x`.
fn arguments(line: &str) -> String {
    if !line.contains('-') {
        return line.to_owned();
    }
    let (sshpass, mosquitto) = (line.contains("sshpass"), line.contains("mosquitto_"));
    let mut out = String::with_capacity(line.len());
    let mut before = "";
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start().len();
        out.push_str(&rest[..blanks]);
        rest = &rest[blanks..];
        let quote = rest.chars().next().filter(|c| "\"'".contains(*c));
        // Noise has quotes that nobody closes.
        let near = quote.map(|_| &rest[1..rest.floor_char_boundary(ARGUMENT)]);
        let closed = near.and_then(|near| near.find(quote?).map(|at| at + 2));
        let end = closed.unwrap_or_else(|| rest.find(char::is_whitespace).unwrap_or(rest.len()));
        let (word, after) = rest.split_at(end);
        let flag = before.starts_with('-') && !before.contains(['=', ':']);
        let name = before.trim_start_matches('-');
        let given = !word.starts_with('-') && !word.is_empty();
        let short = (sshpass && before == "-p") || (mosquitto && before == "-P");
        let login = ["-u", "--user", "-U", "--proxy-user"].contains(&before) && word.contains(':');
        if flag && given && (is_secret_word(name) || short) {
            out.push_str(BLANK);
        } else if flag && login && !word.chars().all(|c| c.is_ascii_digit() || c == ':') {
            let (user, _) = word.split_once(':').unwrap_or((word, ""));
            out.push_str(&format!("{}:{BLANK}", user.trim_start_matches(['"', '\''])));
        } else {
            out.push_str(word);
        }
        (before, rest) = (word, after);
    }
    out
}

/// `Bearer x` and `Basic x` wherever they stand, and JSON web tokens.
fn tokens(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut before = "";
    let parts = line.split_inclusive(|c: char| c.is_whitespace() || "\"'`\\,;:=()[]{}<>".contains(c));
    for part in parts {
        // `=` ends base64 too.
        let body = part.trim_end_matches(|c: char| c.is_whitespace() || "\"'`\\,;:()[]{}<>".contains(c));
        let after_scheme = ["bearer", "basic", "digest"].contains(&before.to_ascii_lowercase().as_str());
        if is_web_token(body) || after_scheme && is_random(body) {
            out.push_str(BLANK);
            out.push_str(&part[body.len()..]);
        } else {
            out.push_str(part);
        }
        if !body.is_empty() {
            before = body;
        }
    }
    out
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=%".contains(&byte)
}

fn is_web_token(text: &str) -> bool {
    text.len() >= 30
        && text.starts_with("eyJ")
        && text.bytes().filter(|byte| *byte == b'.').count() == 2
        && text.bytes().all(is_of_token)
}

/// Not a word of a language.
fn is_random(text: &str) -> bool {
    let mixed = text.chars().skip(1).any(|c| c.is_ascii_uppercase()) && text.chars().any(|c| c.is_ascii_lowercase());
    text.len() >= 8
        && text.bytes().all(is_of_token)
        && (mixed || text.bytes().any(|byte| byte.is_ascii_digit() || b"=+%".contains(&byte)))
}

/// `password=x`, `"token": "x"`, `Authorization: Basic x`, `secret: Some("x")`.
fn assigned(line: &str) -> (String, Open) {
    let mut out = String::with_capacity(line.len());
    let (mut at, mut open) = (0, Open::Nothing);
    for (sign, text) in line.match_indices([':', '=', '：']) {
        if sign < at {
            continue;
        }
        let (begin, name) = name_before(&line[at..sign]);
        if !is_secret_word(name) {
            continue;
        }
        let front = line[..at + begin].trim_start_matches([' ', '\t', '-', '"', '\'', '{', ',']);
        let reach = match text {
            _ if is_header(name) => Reach::All,
            "=" => Reach::Word,
            _ if front.is_empty() => Reach::Line,
            _ => Reach::Word,
        };
        let behind = sign + text.len();
        if front.is_empty() && text != "=" && begins_block(&line[behind..]) {
            open = Open::Block(indent_of(line));
        }
        let Some(span) = value(line, behind, reach) else { continue };
        out.push_str(&line[at..span.begin]);
        out.push_str(BLANK);
        at = span.end;
        if span.open > 0 {
            open = Open::Brackets(span.open);
        }
    }
    out.push_str(&line[at..]);
    (out, open)
}

/// Nothing, or what YAML has before a text of many lines.
fn begins_block(rest: &str) -> bool {
    let rest = rest.split(" #").next().unwrap_or_default().trim();
    rest.is_empty() || rest.starts_with(['|', '>']) && rest.len() <= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_what_is_secret_and_keep_the_rest() {
        for (text, clean) in [
            ("GET http://u:p@ss@h:80/a?sign=1 done", "GET http://(removed)@h:80/a?(removed) done"),
            ("fetch https://h/a/b", "fetch https://h/a/b"),
            ("mqtt u:hunter2@h:1883 refused", "mqtt (removed)@h:1883 refused"),
            (r#"{"u":"ssl:\/\/u:p@h:1\/a?x=y"}"#, r#"{"u":"ssl:\/\/(removed)@h:1\/a?(removed)"}"#),
            ("https://h/cb#access_token=x1", "https://h/cb#(removed)"),
            ("GET /auth/p/d?sessionId=x&sign=y HTTP/1.1", "GET /auth/p/d?(removed) HTTP/1.1"),
            ("what now? x=1", "what now? x=1"),
            ("mail to a@b.example", "mail to a@b.example"),
            ("password=abc next", "password=(removed) next"),
            ("password=ab,cd)e&f next", "password=(removed) next"),
            ("(user=u, pass=abc, n=1)", "(user=u, pass=(removed), n=1)"),
            (r#"{"deviceSecret":"abc","x":1}"#, r#"{"deviceSecret":"(removed)","x":1}"#),
            (r#"{"pwd":"a\"b\\","x":1}"#, r#"{"pwd":"(removed)","x":1}"#),
            (r#"sent {\"pwd\":\"a\\\"b\",\"x\":1}"#, r#"sent {\"pwd\":\"(removed)\",\"x\":1}"#),
            (r#"Login { password: Some("a b"), n: 1 }"#, "Login { password: (removed), n: 1 }"),
            (
                r#"{"tokens":["a","b"],"credentials":{"x":"y"},"n":1}"#,
                r#"{"tokens":(removed),"credentials":(removed),"n":1}"#,
            ),
            ("Authorization: Basic abc def", "Authorization: (removed)"),
            ("proxy-authorization: Basic abc def", "proxy-authorization: (removed)"),
            ("Set-Cookie: session=abc; path=/", "Set-Cookie: (removed)"),
            ("header Bearer ab12cd34ef sent", "header Bearer (removed) sent"),
            (r#"x="Basic dTpwYXNz""#, r#"x="Basic (removed)""#),
            ("Basic configuration of bearer certificates", "Basic configuration of bearer certificates"),
            ("got eyJhbGciOiJI.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3 back", "got (removed) back"),
            ("x-api-key: abc", "x-api-key: (removed)"),
            (r#"{"api_key": "abc","accessKey":"d"}"#, r#"{"api_key": "(removed)","accessKey":"(removed)"}"#),
            ("pwd='a b' next", "pwd='(removed)' next"),
            ("run --password abc --user u", "run --password (removed) --user u"),
            ("run --token 'a b' -v", "run --token (removed) -v"),
            ("curl -u u:abc http://h", "curl -u u:(removed) http://h"),
            ("sshpass -p abc ssh h", "sshpass -p (removed) ssh h"),
            ("mosquitto_pub -h h -P abc -t t", "mosquitto_pub -h h -P (removed) -t t"),
            ("journalctl --password-file f -u enos-edge", "journalctl --password-file f -u enos-edge"),
            ("api_key_file: /a/b", "api_key_file: /a/b"),
            ("secret_file: /a/b", "secret_file: /a/b"),
            ("the secret of a device", "the secret of a device"),
            ("device_secret: abc def # more", "device_secret: (removed) # more"),
            ("密码 token=密", "密码 token=(removed)"),
            ("密码：六六六 好", "密码：(removed)"),
            ("device_key=abc product_key=def sign=12ab", "device_key=abc product_key=def sign=(removed)"),
        ] {
            assert_eq!(line(text), clean);
        }
    }

    #[test]
    fn a_private_key_goes_as_a_whole_and_nothing_behind_it() {
        let pem = "a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb\n";
        assert_eq!(text(pem), "a\n(private key removed)\nb\n");
        let torn = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nMIIF\n";
        assert_eq!(text(torn), "(private key removed)\n");
        let long = "Ab1+".repeat(16);
        let logged =
            format!("10:00 gw: x\n10:00 gw: -----BEGIN PRIVATE KEY-----\n10:00 gw: {long}\n10:00 gw: the link is up\n");
        assert_eq!(text(&logged), "10:00 gw: x\n10:00 gw: (private key removed)\n10:00 gw: the link is up\n");
        let beheaded = format!("{long}\n{long}\nAb==\n-----END PRIVATE KEY-----\nafter\n");
        assert_eq!(text(&beheaded), "(private key removed)\nafter\n");
        let inline = r#"{"key":"-----BEGIN EC PRIVATE KEY-----\nMIIE\n-----END EC PRIVATE KEY-----\n","n":1}"#;
        assert_eq!(line(inline), r#"{"key":"(private key removed)\n","n":1}"#);
        let public = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n";
        assert_eq!(text(public), public);
    }

    #[test]
    fn a_value_of_many_lines_goes_with_its_name() {
        let yaml = "a: 1\npassword: |\n  one\n\n  two\nb: 2\n";
        assert_eq!(text(yaml), "a: 1\npassword: (removed)\nb: 2\n");
        let list = "{\n  \"tokens\": [\n    \"one\",\n    \"two\"\n  ],\n  \"b\": 2\n}\n";
        assert_eq!(text(list), "{\n  \"tokens\": (removed)\n  \"b\": 2\n}\n");
        let block = "secrets:\n  meter: one\n  other: two\nb: 2\n";
        assert_eq!(text(block), "secrets:\nb: 2\n");
        let endless = format!("reading the token: [\n{}", "the gateway goes on\n".repeat(300));
        assert!(text(&endless).lines().count() > 90, "a bracket that never closes costs no log");
    }
}
