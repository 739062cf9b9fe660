//! From the body of createTask to a task definition: defaults, bounds, dates.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, ToSpan as _, tz::TimeZone};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    check::{Broken, Fields, PROJECT_ID, SCOPE, TASK_ID, TASK_QUEUE_ID, Text, WORD, WORKER_TYPE},
    fault::{Code, Fault},
    state::{Definition, Priority, Requires, TaskId, indexing},
};

const DRIFT: SignedDuration = SignedDuration::from_mins(15);
/// How far from its creation the deadline of a task may be.
pub(crate) const LONGEST_DEADLINE: SignedDuration = SignedDuration::from_hours(5 * 24);
/// How many tasks one task may wait for.
pub(crate) const MOST_DEPENDENCIES: usize = 10_000;
const MOST_ROUTES: usize = 64;
const ROUTE: Text = Text { min: 1, max: 249, is: |_| true, shape: "" };
const SOURCE: Text = Text {
    min: 0,
    max: 4096,
    is: |text| ["http://", "https://", "ssh://", "git@"].iter().any(|scheme| text.starts_with(scheme)),
    shape: "a link that begins with http://, https://, ssh:// or git@",
};
/// All fields of a definition.
pub(crate) const FIELDS: &[&str] = &[
    "provisionerId",
    "workerType",
    "taskQueueId",
    "schedulerId",
    "projectId",
    "taskGroupId",
    "dependencies",
    "requires",
    "routes",
    "priority",
    "retries",
    "created",
    "deadline",
    "expires",
    "scopes",
    "payload",
    "metadata",
    "tags",
    "extra",
];
/// All fields of its `metadata`.
pub(crate) const METADATA: &[&str] = &["name", "description", "owner", "source"];

/// The definition that this body asks for.
pub(crate) fn define(id: TaskId, body: &Value, now: Timestamp) -> Result<Definition, Fault> {
    let mut problems = Vec::new();
    let draft = Fields::of(body, "", &mut problems).and_then(|mut fields| Draft::read(&mut fields));
    let draft = match draft {
        Some(draft) if problems.is_empty() => draft,
        _ => return Err(Fault::invalid_body("createTask", &problems)),
    };
    let problems = draft.problems_with_dates(now);
    if !problems.is_empty() {
        return Err(Fault::new(
            Code::InputError,
            format!("the dates of task {id} do not fit:\n  * {}", problems.join("\n  * ")),
        ));
    }
    draft.finish(id, body)
}

/// Everything that createTask has against a definition at any time: against its fields, not against its dates.
pub(crate) fn shape(body: &Value) -> Vec<Broken> {
    let mut problems = Vec::new();
    if let Some(mut fields) = Fields::of(body, "", &mut problems) {
        Draft::read(&mut fields);
    }
    problems
}

/// What createTask has against the order of a definition's dates: the field, and the rule that it breaks.
pub(crate) fn disorder(created: Timestamp, deadline: Timestamp, expires: Option<Timestamp>) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if created > deadline {
        problems.push(("deadline", format!("({deadline:.3}) must not be before created ({created:.3})")));
    }
    if let Some(expires) = expires.filter(|expires| *expires < deadline) {
        problems.push(("expires", format!("({expires:.3}) must not be before deadline ({deadline:.3})")));
    }
    problems
}

struct Draft {
    task_queue_id: String,
    scheduler_id: String,
    project_id: String,
    task_group_id: Option<TaskId>,
    dependencies: Vec<String>,
    requires: Requires,
    priority: Priority,
    retries: u32,
    created: Timestamp,
    deadline: Timestamp,
    expires: Timestamp,
    scopes: Vec<String>,
    routes: Vec<String>,
}

impl Draft {
    /// Nothing if a field that others depend on is missing; then there is a problem that says so.
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.only(FIELDS);
        let task_queue_id = read_task_queue_id(fields);
        let created = fields.date("created");
        let deadline = fields.date("deadline");
        let expires = fields.optional_date("expires");
        if fields.required("payload").is_some_and(|payload| !payload.is_object()) {
            fields.problem("payload", "must be an object");
        }
        if fields.optional("extra").is_some_and(|extra| !extra.is_object()) {
            fields.problem("extra", "must be an object");
        }
        fields.required("metadata");
        fields.inner("metadata", |metadata| {
            metadata.only(METADATA);
            metadata.text("name", &Text::up_to(255));
            metadata.text("description", &Text::up_to(32_768));
            metadata.text("owner", &Text::up_to(255));
            metadata.text("source", &SOURCE);
        });
        fields.inner("tags", |tags| {
            for (name, _) in tags.entries() {
                tags.text(name, &Text::up_to(4096));
            }
        });
        let priority = read_word(fields, "priority", Priority::ALL, Priority::as_str, Priority::parse, Priority::Lowest);
        let requires = read_word(fields, "requires", Requires::ALL, Requires::as_str, Requires::parse, Requires::AllCompleted);
        let scheduler_id = fields.optional_text("schedulerId", &WORD).unwrap_or("-").to_owned();
        let project_id = fields.optional_text("projectId", &PROJECT_ID).unwrap_or("none").to_owned();
        let task_group_id = fields.optional_text("taskGroupId", &TASK_ID).and_then(TaskId::parse);
        let dependencies = fields.texts("dependencies", &TASK_ID, MOST_DEPENDENCIES, true);
        let retries = fields.optional_integer("retries", 0..=49).and_then(|n| u32::try_from(n).ok()).unwrap_or(5);
        let scopes = fields.texts("scopes", &SCOPE, usize::MAX, false);
        let routes = fields.texts("routes", &ROUTE, MOST_ROUTES, true);
        // What is shown is what counts, also after a restart.
        let (created, deadline) = (to_millisecond(created?), to_millisecond(deadline?));
        let task_queue_id = task_queue_id?;
        let expires = to_millisecond(expires.or_else(|| a_year_after(deadline))?);
        Some(Self {
            task_queue_id,
            scheduler_id,
            project_id,
            task_group_id,
            dependencies,
            requires,
            priority,
            retries,
            created,
            deadline,
            expires,
            scopes,
            routes,
        })
    }

    fn problems_with_dates(&self, now: Timestamp) -> Vec<String> {
        let mut problems = Vec::new();
        let Self { created, deadline, expires, .. } = self;
        if created.duration_since(now).abs() > DRIFT {
            problems.push(format!("created ({created:.3}) must be within 15 minutes of now ({now:.3})"));
        }
        problems
            .extend(disorder(*created, *deadline, Some(*expires)).into_iter().map(|(field, rule)| format!("{field} {rule}")));
        if *deadline < now {
            problems.push(format!("deadline ({deadline:.3}) must not be in the past; it is {now:.3}"));
        }
        if deadline.duration_since(now) > LONGEST_DEADLINE + DRIFT {
            problems.push(format!("deadline ({deadline:.3}) must be within 5 days from now ({now:.3})"));
        }
        problems
    }

    fn finish(self, id: TaskId, body: &Value) -> Result<Definition, Fault> {
        let task_group_id = self.task_group_id.unwrap_or(id);
        let (provisioner_id, worker_type) = self.task_queue_id.split_once('/').unwrap_or_default();
        let given = |name: &str| body.get(name).cloned();
        let mut whole = Map::new();
        let mut set = |name: &str, value: Value| whole.insert(name.to_owned(), value);
        set("provisionerId", json!(provisioner_id));
        set("workerType", json!(worker_type));
        set("taskQueueId", json!(self.task_queue_id));
        set("schedulerId", json!(self.scheduler_id));
        set("projectId", json!(self.project_id));
        set("taskGroupId", json!(task_group_id.as_str()));
        set("dependencies", json!(self.dependencies));
        set("requires", json!(self.requires.as_str()));
        set("routes", json!(self.routes));
        set("priority", json!(self.priority.as_str()));
        set("retries", json!(self.retries));
        set("created", json!(format!("{:.3}", self.created)));
        set("deadline", json!(format!("{:.3}", self.deadline)));
        set("expires", json!(format!("{:.3}", self.expires)));
        set("scopes", json!(self.scopes));
        set("payload", given("payload").unwrap_or_else(|| json!({})));
        set("metadata", given("metadata").unwrap_or_else(|| json!({})));
        set("tags", given("tags").unwrap_or_else(|| json!({})));
        set("extra", given("extra").unwrap_or_else(|| json!({})));
        let json = serde_json::to_string(&whole)
            .and_then(RawValue::from_string)
            .map_err(|error| Fault::new(Code::InternalServerError, format!("store task {id}: {error}")))?;
        Ok(Definition {
            json,
            task_queue_id: Arc::from(self.task_queue_id),
            scheduler_id: self.scheduler_id.into(),
            project_id: self.project_id.into(),
            task_group_id,
            dependencies: self.dependencies.iter().filter_map(|on| TaskId::parse(on)).collect(),
            requires: self.requires,
            priority: self.priority,
            retries: self.retries,
            deadline: self.deadline,
            expires: self.expires,
            scopes: self.scopes.into(),
            indexing: indexing(&self.routes, body.get("extra"), self.expires),
            routes: self.routes.into(),
        })
    }
}

/// The task queue that a definition names, in whichever of the two ways; not checked.
pub fn task_queue_id(definition: &Value) -> Option<String> {
    let text = |key: &str| definition.get(key).and_then(Value::as_str);
    match definition.get("taskQueueId") {
        Some(_) => text("taskQueueId").map(str::to_owned),
        None => Some(format!("{}/{}", text("provisionerId")?, text("workerType")?)),
    }
}

fn read_task_queue_id(fields: &mut Fields<'_>) -> Option<String> {
    let whole = fields.optional_text("taskQueueId", &TASK_QUEUE_ID).map(str::to_owned);
    if fields.optional("taskQueueId").is_none()
        && fields.optional("provisionerId").is_none()
        && fields.optional("workerType").is_none()
    {
        fields.missing("taskQueueId", "is required, or provisionerId and workerType");
        return None;
    }
    if fields.optional("taskQueueId").is_some() {
        let provisioner = fields.optional_text("provisionerId", &WORD);
        let worker_type = fields.optional_text("workerType", &WORKER_TYPE);
        if let Some((first, second)) = whole.as_deref().and_then(|whole| whole.split_once('/'))
            && (provisioner.is_some_and(|given| given != first) || worker_type.is_some_and(|given| given != second))
        {
            fields.problem("taskQueueId", "must agree with provisionerId and workerType");
        }
        return whole;
    }
    let (provisioner, worker_type) = (fields.text("provisionerId", &WORD), fields.text("workerType", &WORKER_TYPE));
    Some(format!("{}/{}", provisioner?, worker_type?))
}

fn read_word<T: Copy>(
    fields: &mut Fields<'_>,
    name: &str,
    all: &[T],
    as_str: fn(T) -> &'static str,
    parse: fn(&str) -> Option<T>,
    default: T,
) -> T {
    let Some(value) = fields.optional(name) else { return default };
    value.as_str().and_then(parse).unwrap_or_else(|| {
        let words: Vec<_> = all.iter().map(|word| format!("\"{}\"", as_str(*word))).collect();
        fields.problem(name, format!("must be one of {}", words.join(", ")));
        default
    })
}

fn to_millisecond(date: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(date.as_millisecond()).unwrap_or(date)
}

fn a_year_after(date: Timestamp) -> Option<Timestamp> {
    date.to_zoned_datetime(TimeZone::UTC).checked_add(1.year()).ok().map(|later| later.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().expect("a date")
    }

    fn id() -> TaskId {
        TaskId::parse("fN1SbArXTPSVFNUvaOlinQ").expect("an id")
    }

    fn body() -> Value {
        json!({
            "taskQueueId": "p/w", "created": "2030-01-01T00:00:00.000Z", "deadline": "2030-01-02T00:00:00.5Z", "payload": { "b": 1, "a": 2 },
            "metadata": { "name": "n", "description": "", "owner": "o", "source": "https://example.com" },
        })
    }

    fn message(change: impl FnOnce(&mut Value)) -> String {
        let mut body = body();
        change(&mut body);
        define(id(), &body, now()).map(|_| ()).map_err(|fault| fault.message).expect_err("a fault")
    }

    #[test]
    fn defaults_are_filled_in_and_the_author_s_order_is_kept() {
        let definition = define(id(), &body(), now()).expect("fine");
        let value: Value = serde_json::from_str(definition.json.get()).expect("JSON");
        assert_eq!(value["provisionerId"], "p");
        assert_eq!(value["workerType"], "w");
        assert_eq!(value["taskGroupId"], id().as_str());
        assert_eq!(value["expires"], "2031-01-02T00:00:00.500Z");
        assert_eq!(value["retries"], 5);
        assert_eq!(value["priority"], "lowest");
        assert!(definition.json.get().contains(r#"{"b":1,"a":2}"#));
    }

    #[test]
    fn all_problems_are_in_one_message() {
        let message = message(|body| {
            body["priority"] = json!("normal");
            body["retries"] = json!(50);
            body["payload"] = json!([]);
            body["surprise"] = json!(1);
            body["metadata"]["source"] = json!("file:///etc");
            body["tags"] = json!({ "a": 1 });
            body["scopes"] = json!(["a**", "ä"]);
            body["dependencies"] = json!(["short"]);
            body["taskQueueId"] = json!("P/W/X");
            body["deadline"] = json!("soon");
        });
        for part in [
            "priority",
            "retries",
            "payload",
            "surprise",
            "metadata.source",
            "tags.a",
            "scopes[0]",
            "scopes[1]",
            "dependencies[0]",
            "taskQueueId",
            "deadline",
        ] {
            assert!(message.contains(&format!("\n  * {part} ")), "{part} is missing in {message}");
        }
    }

    #[test]
    fn dates_have_to_fit() {
        assert!(message(|body| body["created"] = json!("2029-12-31T23:44:00Z")).contains("within 15 minutes"));
        assert!(message(|body| body["deadline"] = json!("2030-01-06T00:16:00Z")).contains("within 5 days"));
        assert!(message(|body| body["deadline"] = json!("2029-12-31T23:59:59Z")).contains("in the past"));
        assert!(message(|body| body["expires"] = json!("2030-01-01T12:00:00Z")).contains("before deadline"));
    }

    #[test]
    fn a_task_queue_is_named_once_or_twice_alike() {
        let mut halves = body();
        halves.as_object_mut().expect("an object").remove("taskQueueId");
        assert!(define(id(), &halves, now()).is_err());
        halves["provisionerId"] = json!("p");
        assert!(define(id(), &halves, now()).is_err());
        halves["workerType"] = json!("w");
        assert_eq!(&*define(id(), &halves, now()).expect("fine").task_queue_id, "p/w");
        halves["taskQueueId"] = json!("p/other");
        assert!(define(id(), &halves, now()).is_err());
    }
}
