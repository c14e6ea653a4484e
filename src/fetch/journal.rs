//! PURE. What an attempt did, step by step, and where it ended: told to whoever stands before a closed port (R6).

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The steps in their order; no way in has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub enum Step {
    /// Files that the configuration names, programs that are needed.
    Setup,
    /// A name becomes addresses.
    Resolve,
    /// TCP to the port.
    Connect,
    /// The proxy opens the way.
    Proxy,
    Tls,
    Login,
    /// What lies in the folder.
    List,
    /// The server is asked for the archive.
    Ask,
    Transfer,
    /// Size and SHA-256.
    Digest,
    /// Who signed it.
    Signature,
    /// What is in it, and whether it may come after what runs.
    Check,
    /// The disk and the running parts take it.
    Switch,
}

impl Step {
    /// What happens to an archive that is here already.
    #[must_use]
    pub fn is_hand_over(self) -> bool {
        self >= Step::Signature
    }
}

impl Step {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Step::Setup => "set-up",
            Step::Resolve => "name resolution",
            Step::Connect => "tcp connection",
            Step::Proxy => "proxy",
            Step::Tls => "tls",
            Step::Login => "login",
            Step::List => "listing",
            Step::Ask => "request",
            Step::Transfer => "transfer",
            Step::Digest => "digest",
            Step::Signature => "signature",
            Step::Check => "check",
            Step::Switch => "switch",
        }
    }
}

impl From<Step> for &'static str {
    /// Status and the cloud tell it by the same word as a person is told.
    fn from(step: Step) -> &'static str {
        step.word()
    }
}

/// A step that went well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    pub step: Step,
    pub said: String,
}

/// Where an attempt ended. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    pub step: Step,
    pub problem: String,
    /// What a person can do; empty when nobody knows.
    pub remedy: String,
    /// The server says when it may be asked again.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// What another attempt is worth.
    #[serde(skip)]
    pub chance: Chance,
}

/// Whether the same attempt may end otherwise, for those who count attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chance {
    /// Networks and servers come back.
    #[default]
    Good,
    /// As long as nobody changes something: a certificate that is not trusted, a login that is refused.
    Slim,
    /// This gateway's own configuration forbids it.
    Forbidden,
}

impl Trouble {
    pub fn new(step: Step, problem: impl Into<String>) -> Trouble {
        Trouble { step, problem: problem.into(), remedy: String::new(), retry_after: None, chance: Chance::Good }
    }

    #[must_use]
    pub fn chance(self, chance: Chance) -> Trouble {
        Trouble { chance, ..self }
    }

    #[must_use]
    pub fn help(mut self, remedy: impl Into<String>) -> Trouble {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.word(), self.problem)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl std::error::Error for Trouble {}

/// More steps than an attempt with five redirects has.
const MOST: usize = 64;

/// The steps of one attempt.
pub struct Journal<'a> {
    done: Vec<Done>,
    watcher: &'a (dyn Fn(&Done) + Send + Sync),
}

impl<'a> Journal<'a> {
    /// `watcher` sees each step when it is done.
    pub fn new(watcher: &'a (dyn Fn(&Done) + Send + Sync)) -> Journal<'a> {
        Journal { done: Vec::new(), watcher }
    }

    pub fn done(&mut self, step: Step, said: impl Into<String>) {
        let done = Done { step, said: said.into() };
        (self.watcher)(&done);
        if self.done.len() < MOST {
            self.done.push(done);
        }
    }

    #[must_use]
    pub fn steps(&self) -> &[Done] {
        &self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_reads_as_a_sentence_with_its_remedy() {
        let trouble = Trouble::new(Step::Connect, "port 443 of h is closed").help("open it");
        assert_eq!(trouble.to_string(), "tcp connection: port 443 of h is closed; open it");
        assert_eq!(serde_json::json!(trouble)["step"], "tcp connection", "and programs are told the same word");
        let journal_steps =
            [Step::Resolve, Step::Connect, Step::Tls, Step::Digest, Step::Signature, Step::Check, Step::Switch];
        assert!(journal_steps.is_sorted() && Step::Check.is_hand_over() && !Step::Digest.is_hand_over());
    }
}
