//! How rules are written, and the parser for it. Pure.
//!
//! ```text
//! rule    = place ":" fault { "," limit }
//! place   = "*" | [ METHOD ] name | [ METHOD ] "/path" | METHOD "*"     name: as in the services' references, "service.name" too
//! fault   = "drop" [ "request" | "answer" ]
//!         | "delay" TIME
//!         | [ "late" ] "status" NUMBER [ "retry" "after" SECONDS ]
//!         | "garbage" [ "http" ]
//!         | "cut" [ "request" | "answer" ] "after" ( SIZE | "half" )    |  "half" "body"
//!         | "wrong" "length"  |  "expired"  |  "stolen"
//! limit   = "first" N | "every" N ("st"|"nd"|"rd"|"th") | N "%" | "after" N
//! ```

use http::{Method, StatusCode};
use tc_payload::nearest;

use super::{
    names,
    rule::{After, Kind, Limits, Place, Refused, Rule, Side, What, is_of_a_run},
};
use crate::local::amount;

/// Longest rule that is looked at, in bytes.
const MOST: usize = 1000;
/// First words of faults.
const KINDS: &[&str] = &["drop", "delay", "status", "late", "garbage", "cut", "half", "wrong", "expired", "stolen"];

/// Why a rule is none, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    rule: String,
    /// Position and length of the place, in characters.
    column: usize,
    width: usize,
    message: String,
}

impl std::error::Error for ParseError {}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rule: String = self.rule.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        write!(f, "{}\n  {rule}\n  {}{}", self.message, " ".repeat(self.column), "^".repeat(self.width.max(1)))
    }
}

impl std::str::FromStr for Rule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

/// Part of a rule, and where it begins in it, in bytes.
#[derive(Clone, Copy)]
struct Word<'a> {
    at: usize,
    text: &'a str,
}

/// Words that are still to be read.
struct Words<'a> {
    rule: &'a str,
    words: std::vec::IntoIter<Word<'a>>,
    /// Where the part ends that they belong to.
    end: usize,
}

impl<'a> Words<'a> {
    fn of(rule: &'a str, part: Word<'a>) -> Self {
        let offset = |word: &str| part.at + (word.as_ptr() as usize - part.text.as_ptr() as usize);
        let words: Vec<_> = part.text.split_whitespace().map(|text| Word { at: offset(text), text }).collect();
        Self { rule, words: words.into_iter(), end: part.at + part.text.trim_end().len() }
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.as_slice().first().map(|word| word.text)
    }

    /// The next word, or an error that says what is missing.
    fn next(&mut self, expected: &str) -> Result<Word<'a>, ParseError> {
        let end = Word { at: self.end, text: "" };
        self.words.next().ok_or_else(|| error(self.rule, end, format!("expected {expected} here")))
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        if there {
            self.words.next();
        }
        there
    }

    fn expect(&mut self, wanted: &str) -> Result<(), ParseError> {
        let word = self.next(&format!("`{wanted}`"))?;
        if word.text == wanted { Ok(()) } else { Err(self.wrong(word, format!("expected `{wanted}`, found `{}`", word.text))) }
    }

    fn side(&mut self) -> Option<Side> {
        if self.take("request") {
            return Some(Side::Request);
        }
        self.take("answer").then_some(Side::Answer)
    }

    fn end(&mut self) -> Result<(), ParseError> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(self.wrong(word, format!("`{}` is one word too many; a comma begins a limit", word.text))),
        }
    }

    fn wrong(&self, word: Word<'_>, message: impl Into<String>) -> ParseError {
        error(self.rule, word, message)
    }
}

fn error(rule: &str, place: Word<'_>, message: impl Into<String>) -> ParseError {
    let column = rule.get(..place.at).unwrap_or(rule).chars().count();
    ParseError { rule: rule.to_owned(), column, width: place.text.chars().count(), message: message.into() }
}

/// ` (did you mean …?)`, if there is something to mean.
fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Reads one rule.
pub(super) fn parse(text: &str) -> Result<Rule, ParseError> {
    if text.len() > MOST {
        let shown: String = text.chars().take(20).collect();
        return Err(error(&shown, Word { at: 0, text: &shown }, format!("a rule has at most {MOST} bytes")));
    }
    let whole = Word { at: 0, text };
    // A path may hold a colon; then the one that counts is followed by a space.
    let spaced = text.match_indices(':').find(|(at, _)| text[at + 1..].starts_with(char::is_whitespace));
    let Some((colon, _)) = spaced.or_else(|| text.match_indices(':').next()) else {
        let hint = "a rule has a colon between where it applies and what happens, as in `claimWork: drop, 10%`";
        return Err(error(text, whole, hint));
    };
    let place = place(text, Word { at: 0, text: &text[..colon] })?;
    let mut parts = Vec::new();
    let mut at = colon + 1;
    for part in text[at..].split(',') {
        parts.push(Word { at, text: part });
        at += part.len() + 1;
    }
    let (what, rest) = parts.split_first().unwrap_or((&whole, &[]));
    let kind = kind(text, *what, &place)?;
    let limits = limits(text, rest)?;
    Ok(Rule { text: text.trim().to_owned(), place, kind, limits })
}

fn place(rule: &str, part: Word<'_>) -> Result<Place, ParseError> {
    const METHODS: &[Method] = &[Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD, Method::PATCH];
    let mut words = Words::of(rule, part);
    let first = words.next("where the rule applies: a method, an endpoint's name, a path, or `*`")?;
    let method = METHODS.iter().find(|method| method.as_str() == first.text).cloned();
    let what = match (&method, words.peek()) {
        (Some(_), None) => What::Everything,
        (Some(_), Some(_)) => {
            let word = words.next("a name")?;
            what(&words, word)?
        }
        (None, _) => what(&words, first)?,
    };
    words.end().map_err(|error| ParseError { message: "expected a colon before this".to_owned(), ..error })?;
    Ok(Place { method, what })
}

fn what(words: &Words<'_>, word: Word<'_>) -> Result<What, ParseError> {
    if word.text == "*" {
        return Ok(What::Everything);
    }
    if word.text.starts_with('/') {
        return Ok(What::Path(word.text.to_owned()));
    }
    let (service, name) = match word.text.split_once('.') {
        Some((service, name)) => (Some(service), name),
        None => (None, word.text),
    };
    if let Some(service) = service.filter(|service| !names::services().any(|known| known == *service)) {
        let hint = meant(service, names::services());
        return Err(words.wrong(word, format!("there is no service `{service}`{hint}")));
    }
    let what = What::Name { service: service.map(str::to_owned), name: name.to_owned() };
    if names::endpoints().any(|(service, name)| what.matches(service, name, "")) {
        return Ok(what);
    }
    let of_service = names::endpoints().filter(|(known, _)| service.is_none_or(|service| service == *known));
    let hint = meant(name, of_service.map(|(_, name)| name));
    Err(words.wrong(word, format!("no service has an endpoint `{}`{hint}", word.text)))
}

fn kind(rule: &str, part: Word<'_>, place: &Place) -> Result<Kind, ParseError> {
    let mut words = Words::of(rule, part);
    let first = words.next("what happens")?;
    let kind = match first.text {
        "drop" => Kind::Drop(words.side()),
        "delay" => {
            let time = words.next("a time, as in `delay 2s`")?;
            Kind::Delay(amount::duration(time.text).map_err(|why| words.wrong(time, why))?)
        }
        "late" => {
            words.expect("status")?;
            Kind::Status(refused(&mut words, true)?)
        }
        "status" => Kind::Status(refused(&mut words, false)?),
        "garbage" => Kind::Garbage { http: words.take("http") },
        "cut" => {
            let side = words.side();
            words.expect("after")?;
            let size = words.next("a size, or `half`")?;
            let after = match size.text {
                "half" => After::Half,
                text => After::Bytes(amount::bytes(text).map_err(|why| words.wrong(size, why))?),
            };
            Kind::Cut { side, after }
        }
        "half" => {
            words.expect("body")?;
            Kind::Cut { side: None, after: After::Half }
        }
        "wrong" => {
            words.expect("length")?;
            Kind::WrongLength
        }
        "expired" => {
            applies(&words, first, place, "only signed URLs expire: `artifact`", |service, _| service == names::STORE)?;
            Kind::Expired
        }
        "stolen" => {
            let hint = "only runs are stolen: claimWork, reclaimTask, createArtifact, finishArtifact, report…";
            applies(&words, first, place, hint, is_of_a_run)?;
            Kind::Stolen
        }
        other => {
            let hint = meant(other, KINDS.iter().copied());
            let known = "drop, delay, status, late status, garbage, cut, half body, wrong length, expired, stolen";
            return Err(words.wrong(first, format!("`{other}` is none of {known}{hint}")));
        }
    };
    words.end()?;
    Ok(kind)
}

/// Refuses a fault that could never happen where the rule applies.
fn applies(
    words: &Words<'_>,
    word: Word<'_>,
    place: &Place,
    hint: &str,
    fits: impl Fn(&str, &str) -> bool,
) -> Result<(), ParseError> {
    let named = matches!(place.what, What::Name { .. });
    let possible = names::endpoints().any(|(service, name)| fits(service, name) && place.what.matches(service, name, ""));
    if named && !possible { Err(words.wrong(word, hint)) } else { Ok(()) }
}

fn refused(words: &mut Words<'_>, late: bool) -> Result<Refused, ParseError> {
    let number = words.next("an HTTP status, as in `status 503`")?;
    let status = number.text.parse().ok().filter(|status| (400..600).contains(status));
    let status = status.and_then(|status: u16| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| words.wrong(number, format!("`{}` is no status from 400 to 599", number.text)))?;
    let mut retry_after_secs = None;
    if words.take("retry") {
        words.expect("after")?;
        let time = words.next("a time, as in `retry after 2s`")?;
        let time_is = amount::duration(time.text).map_err(|why| words.wrong(time, why))?;
        retry_after_secs = Some(time_is.as_secs());
    }
    Ok(Refused { status, late, retry_after_secs })
}

fn limits(rule: &str, parts: &[Word<'_>]) -> Result<Limits, ParseError> {
    const FORMS: &str = "a limit: `first 3`, `every 5th`, `10%`, or `after 20`";
    let mut limits = Limits::default();
    let mut given: Vec<&str> = Vec::new();
    for part in parts {
        let mut words = Words::of(rule, *part);
        let first = words.next(FORMS)?;
        let key = match first.text {
            "first" => {
                limits.first = Some(count(&mut words, "")?);
                "first"
            }
            "after" => {
                limits.after = count(&mut words, "")?;
                "after"
            }
            "every" => {
                limits.every = count(&mut words, "stndrdth")?;
                "every"
            }
            text => {
                let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
                let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
                let percent = percent.ok_or_else(|| words.wrong(first, format!("`{text}` is not {FORMS}")))?;
                limits.probability = percent / 100.0;
                "%"
            }
        };
        if given.contains(&key) {
            return Err(words.wrong(first, "this limit is there already"));
        }
        given.push(key);
        words.end().map_err(|error| ParseError { message: "expected a comma before this".to_owned(), ..error })?;
    }
    Ok(limits)
}

/// A number above 0; `endings` are endings of two letters that it may have.
fn count(words: &mut Words<'_>, endings: &str) -> Result<u64, ParseError> {
    let word = words.next("a number")?;
    let digits = word.text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, ending) = word.text.split_at(digits);
    let fine = ending.is_empty() || endings.as_bytes().chunks(2).any(|known| known == ending.as_bytes());
    number
        .parse()
        .ok()
        .filter(|n| *n > 0 && fine)
        .ok_or_else(|| words.wrong(word, format!("`{}` is no number above 0", word.text)))
}
