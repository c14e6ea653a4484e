//! PURE. Where the value begins and ends that a name in a line of text is given.

/// What may stand between a name and its sign.
fn is_between(c: char) -> bool {
    c.is_whitespace() || "\"'`\\]".contains(c)
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// The name in front of a sign, and where it begins.
pub(super) fn name_before(text: &str) -> (usize, &str) {
    let name = text.trim_end_matches(is_between);
    let begin = name.char_indices().rev().take_while(|(_, c)| is_of_name(*c)).last().map_or(name.len(), |(at, _)| at);
    (begin, &name[begin..])
}

/// How a value may go on beyond its first word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Word,
    /// `key: value` and nothing else: up to a comment.
    Line,
    /// A header: to the end.
    All,
}

/// What is to be blanked of `line`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub begin: usize,
    pub end: usize,
    /// Brackets that are not closed on this line.
    pub open: usize,
}

/// The value behind a sign that ends at `from`.
pub(super) fn value(line: &str, from: usize, reach: Reach) -> Option<Span> {
    let rest = &line[from..];
    let skipped = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let slashes = rest[skipped..].bytes().take_while(|byte| *byte == b'\\').count();
    let begin = from + skipped + slashes;
    let value = &line[begin..];
    let span = |end: usize| Some(Span { begin, end: begin + end, open: 0 });
    match value.chars().next()? {
        quote @ ('"' | '\'' | '`') => {
            let inside = begin + 1;
            let end = closing(&line[inside..], quote, slashes).map_or(line.len(), |at| inside + at);
            Some(Span { begin: inside, end, open: 0 })
        }
        '[' | '{' => {
            let (end, open) = bracketed(value);
            Some(Span { begin, end: begin + end, open })
        }
        _ if reach == Reach::All => span(value.len()),
        _ if reach == Reach::Line => span(value.find(" #").unwrap_or(value.len())),
        _ if wraps(value) => {
            let (end, _) = bracketed(value);
            span(end)
        }
        _ => {
            let end = word(value);
            (end > 0).then(|| span(end)).flatten()
        }
    }
}

/// `Some("x")`, `Secret(x)`.
fn wraps(value: &str) -> bool {
    let name = value.chars().take_while(|c| c.is_alphanumeric() || *c == ':').map(char::len_utf8).sum();
    name > 0 && value[name..].starts_with('(')
}

/// The quote that closes, where the one that opens had so many backslashes before it.
fn closing(text: &str, quote: char, slashes: usize) -> Option<usize> {
    let mut before = 0;
    for (at, c) in text.char_indices() {
        if c == quote && before >= slashes && (before - slashes).is_multiple_of(2 * (slashes + 1)) {
            return Some(at - slashes.min(before));
        }
        before = if c == '\\' { before + 1 } else { 0 };
    }
    None
}

/// Up to the bracket that closes the first one; all, and how many stay open, if none does. Brackets in quotes are letters.
fn bracketed(text: &str) -> (usize, usize) {
    let (mut open, mut quote, mut before) = (0usize, None, ' ');
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(which), _) if c == which && before != '\\' => quote = None,
            (Some(_), _) => {}
            (None, '"') => quote = Some(c),
            (None, '[' | '{' | '(') => open += 1,
            (None, ']' | '}' | ')') => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return (at + 1, 0);
                }
            }
            _ => {}
        }
        before = c;
    }
    (text.len(), open)
}

/// A word, which may hold signs: they end it where something else begins behind them.
fn word(text: &str) -> usize {
    for (at, c) in text.char_indices() {
        let behind = &text[at + c.len_utf8()..];
        let ends = match c {
            _ if c.is_whitespace() => true,
            ',' | ';' | '&' | '，' | '；' => {
                let name = behind.trim_start_matches(['"', '\'', '\\']);
                let end = name.find(|c| !is_of_name(c) && c != '.').unwrap_or(name.len());
                behind.is_empty()
                    || behind.starts_with(char::is_whitespace)
                    || end > 0 && name[end..].trim_start_matches(['"', '\'', '\\', ' ']).starts_with(['=', ':', '：'])
            }
            '"' | '\'' | ')' | ']' | '}' | '>' => {
                behind.chars().next().is_none_or(|next| next.is_whitespace() || ",;)]}>\"'".contains(next))
            }
            _ => false,
        };
        if ends {
            return at;
        }
    }
    text.len()
}
