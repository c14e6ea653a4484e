//! PURE. Where a package lies: scheme, host, port and path out of an address.

use reqwest::Url;
use std::fmt;

/// How it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    Ftp,
    /// FTP that is encrypted by AUTH TLS before anything else is said.
    Ftps,
    Sftp,
    /// A folder of this machine.
    File,
}

const SCHEMES: &[(&str, Scheme, u16)] = &[
    ("http", Scheme::Http, 80),
    ("https", Scheme::Https, 443),
    ("ftp", Scheme::Ftp, 21),
    ("ftps", Scheme::Ftps, 21),
    ("sftp", Scheme::Sftp, 22),
    ("file", Scheme::File, 0),
];

impl Scheme {
    #[must_use]
    pub fn word(self) -> &'static str {
        SCHEMES.iter().find(|(_, scheme, _)| *scheme == self).map_or("", |(word, _, _)| word)
    }

    #[must_use]
    pub fn default_port(self) -> u16 {
        SCHEMES.iter().find(|(_, scheme, _)| *scheme == self).map_or(0, |(_, _, port)| *port)
    }

    /// TLS with a certificate of the server; ssh has its own way to know it.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Ftps)
    }

    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Scheme::Http | Scheme::Https)
    }
}

/// A parsed address; holds no account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// HTTP: as it is sent, with its query. Otherwise the name itself; one that ends in `/` is a folder.
    pub path: String,
}

impl Address {
    /// # Errors
    /// What is wrong, in words that do not repeat the address: somebody may have put a password into it.
    pub fn parse(text: &str) -> Result<Address, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let known = SCHEMES.iter().find(|(word, _, _)| *word == url.scheme());
        let Some((_, scheme, port)) = known else {
            let known: Vec<&str> = SCHEMES.iter().map(|(word, _, _)| *word).collect();
            return Err(format!("scheme \"{}\" is not known; known: {}", url.scheme(), known.join(" ")));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an account has no place in the address; use user: and password_file:".to_owned());
        }
        if url.fragment().is_some() || (url.query().is_some() && !scheme.is_http()) {
            return Err("only host, port and path are wanted".to_owned());
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        match scheme {
            Scheme::File if !host.is_empty() => return Err("write three slashes: file:///folder".to_owned()),
            Scheme::File => {}
            _ if host.is_empty() => return Err("has no host".to_owned()),
            _ => {}
        }
        let path = if scheme.is_http() {
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
        } else {
            plain_path(url.path())?
        };
        Ok(Address { scheme: *scheme, host, port: url.port().unwrap_or(*port), path })
    }

    /// Names a folder, in which the newest archive is looked for.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.path.ends_with('/') && !self.scheme.is_http()
    }

    /// Host, and the port where it is not the usual one.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

/// Without its query, which may be a ticket.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        match self.scheme {
            Scheme::File => write!(f, "file://{path}"),
            _ => write!(f, "{}://{}{path}", self.scheme.word(), self.authority()),
        }
    }
}

/// Percent signs undone; control characters would become commands of the protocol.
fn plain_path(path: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let path = String::from_utf8(bytes).map_err(|_| "the path is not UTF-8".to_owned())?;
    if path.chars().any(char::is_control) {
        return Err("the path holds a control character".to_owned());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_the_usual_ones_unless_said() {
        for (text, port, shown) in [
            ("http://h/a.zip", 80, "http://h/a.zip"),
            ("https://h/a.zip?ticket=secret", 443, "https://h/a.zip"),
            ("ftp://h/", 21, "ftp://h/"),
            ("ftps://h:2121/a%20b.zip", 2121, "ftps://h:2121/a b.zip"),
            ("sftp://[::1]/a", 22, "sftp://[::1]/a"),
            ("file:///media/usb", 0, "file:///media/usb"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.port, address.to_string()), (port, shown.to_owned()));
        }
        assert_eq!(Address::parse("https://h/a?b=c").unwrap().path, "/a?b=c");
        assert!(Address::parse("ftp://h/in/").unwrap().is_folder());
    }

    #[test]
    fn an_address_with_an_account_a_command_or_no_host_is_refused() {
        for (text, word) in [
            ("https://u:hunter2@h/", "account"),
            ("ftp://h/a%0d%0aDELE%20b", "control character"),
            ("gopher://h/", "not known"),
            ("file://h/x", "three slashes"),
            ("ftp://h/a?b", "only host"),
            ("ftp://h/%ff", "UTF-8"),
        ] {
            let told = Address::parse(text).unwrap_err();
            assert!(told.contains(word) && !told.contains("hunter2"), "{text}: {told}");
        }
    }
}
