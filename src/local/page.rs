//! Pages of lists. A continuation token is the last name of the page before, so that nothing has to be remembered for it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    endpoint::Call,
    fault::{Code, Fault},
};

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
