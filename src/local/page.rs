//! Pages of lists. A continuation token is the last name of the page before, so that nothing has to be remembered for it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    endpoint::Call,
    fault::{Code, Fault},
    state::TaskId,
};

/// About how much of what people have written is on one page: a task may be large, and a page may have many.
pub(crate) const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// What part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// Only what comes after this name.
    pub(crate) after: Option<String>,
    /// At most so many.
    pub(crate) limit: usize,
}

impl Page {
    /// What the query asks for: `limit` and `continuationToken`.
    pub(crate) fn of(call: &Call) -> Result<Self, Fault> {
        let after = call.query("continuationToken").filter(|token| !token.is_empty());
        Ok(Self { after: after.map(|token| decode(&token)).transpose()?, limit: call.limit()? })
    }

    /// The same, from the body of a call that is made with POST, as older clients make it.
    pub(crate) fn of_body(call: &Call) -> Result<Self, Fault> {
        let wrong = |what: &str| Fault::new(Code::InputValidationError, format!("the request body is wrong: {what}"));
        let mut page = Self::of(call)?;
        if !call.body.is_null() && !call.body.is_object() {
            return Err(wrong("it must be an object"));
        }
        if let Some(limit) = call.body.get("limit") {
            let limit = limit.as_u64().and_then(|limit| usize::try_from(limit).ok()).filter(|limit| (1..=1000).contains(limit));
            page.limit = limit.ok_or_else(|| wrong("limit must be a number from 1 to 1000"))?;
        }
        if let Some(token) = call.body.get("continuationToken") {
            page.after = Some(decode(token.as_str().ok_or_else(|| wrong("continuationToken must be a string"))?)?);
        }
        Ok(page)
    }

    /// `entries` under `key`, with a token if there are more. Whoever collects them asks for one more than the limit.
    pub(crate) fn answer<T>(
        &self,
        key: &str,
        mut entries: Vec<T>,
        name: impl Fn(&T) -> &str,
        shown: impl Fn(&T) -> Value,
    ) -> Value {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        let mut answer = json!({ key: entries.iter().map(shown).collect::<Vec<_>>() });
        if let Some(last) = entries.last().filter(|_| more) {
            answer["continuationToken"] = json!(BASE64_URL_SAFE_NO_PAD.encode(name(last)));
        }
        answer
    }

    /// The same where names are task ids.
    pub(crate) fn after_id(&self) -> Result<Option<TaskId>, Fault> {
        self.after_as(TaskId::parse)
    }

    /// The same where names are made from something else.
    pub(crate) fn after_as<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Fault> {
        let Some(after) = &self.after else { return Ok(None) };
        let parsed = parse(after);
        let wrong = || Fault::new(Code::InvalidRequestArguments, "continuationToken was not made by this call");
        parsed.ok_or_else(wrong).map(Some)
    }

    /// Takes off what does not belong on the page, by number and by size, except that one entry always does. Returns a token if there was any.
    pub(crate) fn cut_off<T>(
        &self,
        entries: &mut Vec<T>,
        bytes: impl Fn(&T) -> usize,
        name: impl Fn(&T) -> String,
    ) -> Option<String> {
        let mut room = PAGE_BYTES;
        let fits = |entry: &T| {
            let fits = bytes(entry) <= room;
            room = room.saturating_sub(bytes(entry));
            fits
        };
        let end = entries.iter().map(fits).position(|fits| !fits).unwrap_or(entries.len()).max(1).min(self.limit);
        let more = entries.len() > end;
        entries.truncate(end);
        entries.last().filter(|_| more).map(|last| BASE64_URL_SAFE_NO_PAD.encode(name(last)))
    }

    /// How many to collect, so that it is known whether there are more.
    pub(crate) fn collect(&self) -> usize {
        self.limit.saturating_add(1)
    }

    /// Those of a whole list, in the order of their names, that belong on the page, and perhaps one more.
    pub(crate) fn cut<T>(&self, entries: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &str) -> Vec<T> {
        let beyond = |entry: &T| self.after.as_deref().is_none_or(|after| name(entry) > after);
        entries.into_iter().filter(beyond).take(self.collect()).collect()
    }
}

fn decode(token: &str) -> Result<String, Fault> {
    let name = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| {
        Fault::new(Code::InvalidRequestArguments, format!("continuationToken `{token}` was not made by this call"))
    })
}
