//! The table of all rules: what `check --rules` prints, and the only place where a rule has its name.

use std::fmt;

/// How bad it is to break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It works, but hardly as it was meant.
    Warning,
    /// A queue or a worker refuses it.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which stays the same from version to version.
    pub id: &'static str,
    /// How bad it is to break it.
    pub severity: Severity,
    /// What it says, in one sentence.
    pub says: &'static str,
}

macro_rules! rules {
    ($($name:ident $id:literal $severity:ident $says:literal)*) => {
        $(#[doc = $says] pub static $name: Rule = Rule { id: $id, severity: Severity::$severity, says: $says };)*

        /// All rules, in the order in which they are shown.
        pub static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    FILE_UNREADABLE "file/unreadable" Error "A file that is named must be one that can be read."
    FILE_TOO_LARGE "file/too-large" Error "A file must not be longer than what is read of its kind."
    FILE_ENCODING "file/encoding" Error "A file must be UTF-8 text."
    FILE_EMPTY "file/empty" Error "A file must say something."
    FILE_SYNTAX "file/syntax" Error "A file must be JSON or YAML."
    FILE_TAB "file/tab" Error "Lines of YAML are indented with spaces, never with tabs."
    FILE_KEY_TWICE "file/key-twice" Error "A key must not stand twice in one object."
    FILE_DEPTH "file/depth" Error "Values must not be nested deeper than 100 levels, nor be multiplied by aliases without measure."
    FILE_MORE "file/more" Error "Of one file, 500 problems are shown; the others are counted."

    TASK_SCHEMA "task/schema" Error "A task definition must be what createTask takes."
    TASK_PRIORITY "task/priority" Error "The priority of a task must be one that the queue knows."
    TASK_INCOMPLETE "task/incomplete" Warning "A task of a graph or a template should have every field that createTask requires."
    GRAPH_NODE "graph/node" Error "Every value in a graph must have the definition of a task under `task`."

    PAYLOAD_SCHEMA "payload/schema" Error "A payload must be what its schema says."
    PAYLOAD_LIMIT "payload/limit" Error "A command and its environment must fit what the kernel takes."
    PAYLOAD_PROGRAM "payload/program" Error "A command must begin with the name of a program."
    PAYLOAD_EMPTY "payload/empty-word" Warning "The command of a container should begin with an empty word only if the image has an entry point that takes one."
    PAYLOAD_VARIABLE "payload/variable" Warning "An environment variable should have a name under which the task can find it."
    IMAGE_NAME "image/name" Error "The name of an image must be one that registries can have."
    IMAGE_ARTIFACT "image/artifact" Error "The artifact that an image is must have a name that the queue can have, and its task one that the index can have."

    SCOPE_SYNTAX "scope/syntax" Error "A scope must be printable ASCII without two stars at its end."
    SCOPE_MISSING "scope/missing" Error "A task must have the scopes that its payload needs."
    SCOPE_UNEXPANDED "scope/unexpanded" Warning "What roles among a task's scopes stand for cannot be told offline, so whether they hold what is needed cannot be checked."

    DEPENDENCY_DANGLING "dependency/dangling" Error "A dependency in a graph must name a task of the graph, or be the id of a task elsewhere, and one in a template must be none that `as_slugid` made for no task."
    DEPENDENCY_NOT_GIVEN "dependency/not-given" Warning "A dependency of a task file should name a task of the files that are checked together, or be an id."
    DEPENDENCY_SELF "dependency/self" Error "A task must not wait for itself."
    DEPENDENCY_CYCLE "dependency/cycle" Error "Tasks must not wait for each other in a circle."
    DEPENDENCY_TOO_MANY "dependency/too-many" Error "A task must not wait for more than 10000 others."
    DEPENDENCY_IMAGE "dependency/image" Error "The task whose image is used must be among the dependencies."
    DEPENDENCY_CONTENT "dependency/content" Error "The task whose artifact is mounted must be among the dependencies."
    DEPENDENCY_REFERENCE "dependency/reference" Error "A reference must name a dependency of its task, and a date a time span."

    CACHE_MOUNT_POINT "cache/mount-point" Error "Every cache and mount needs a place of its own that can be a mount point."
    CACHE_TWICE "cache/twice" Error "A task must not mount the same cache twice."
    CACHE_NESTED "cache/nested" Warning "A cache should not lie within another one."
    CACHE_NAME "cache/name" Warning "The name of a cache should be one that a scope can end with."
    CACHE_PATHS "cache/paths" Warning "A cache should have the same place in all tasks that use it."
    CACHE_KINDS "cache/kinds" Warning "A cache should not be shared between containers and native tasks, whose users differ."

    ARTIFACT_DUPLICATE "artifact/duplicate" Error "Two artifacts of a task must not have the same name."
    ARTIFACT_NAME "artifact/name" Error "The name of an artifact must have 1 to 1024 characters, none of them a control character."
    ARTIFACT_PLAIN "artifact/plain-name" Warning "The name of an artifact should be a plain path, as which it can be saved and fetched everywhere."
    ARTIFACT_PATH "artifact/path" Error "The path of an artifact must lead somewhere that can be read."
    ARTIFACT_LOG "artifact/log" Warning "An artifact should not have the name of a log, which takes its place."
    ARTIFACT_PRIVATE "artifact/private" Warning "What is not below `public/` cannot be fetched by its plain address."

    EXPIRY_DEADLINE "expiry/deadline-before-created" Error "A deadline must not be before the task is created."
    EXPIRY_FAR "expiry/deadline-too-far" Error "A deadline must be within 5 days of the task's creation."
    EXPIRY_TASK "expiry/task-before-deadline" Error "A task must not expire before its deadline."
    EXPIRY_ARTIFACT_EARLY "expiry/artifact-before-deadline" Error "An artifact must not expire before its task's deadline."
    EXPIRY_ARTIFACT_LATE "expiry/artifact-after-task" Error "An artifact must not expire after its task."
    EXPIRY_ARTIFACT_PASSED "expiry/artifact-passed" Warning "An artifact should not have expired already."
    EXPIRY_RUN_TIME "expiry/run-time-beyond-deadline" Warning "A task should have time for its maxRunTime between its creation and its deadline."
    EXPIRY_DEPENDENCY "expiry/dependency-first" Warning "A task should not outlive in the queue what it may still need of its dependencies: they should expire after its deadline."

    NAME_LABEL_TWICE "name/label-twice" Error "Two tasks of a graph must not have the same label."
    NAME_LABEL_SHARED "name/label-shared" Warning "Two task files that are given together should not have the same label."
    NAME_LABEL_DIRECTORY "name/label-directory" Warning "A label in a task file should be a text that can name a directory."
    NAME_TASK_ID "name/task-id" Error "A task id must be a slugid."
    NAME_TASK_ID_TWICE "name/task-id-twice" Error "Two tasks must not have the same id."

    FEATURE_NOT_OFFERED "feature/not-offered" Error "A payload must not ask for what this version of the worker does not have."
    FEATURE_SWITCHED_OFF "feature/switched-off" Error "A payload must not ask for what the worker's configuration switches off."
    FEATURE_WITHHELD "feature/withheld" Warning "A payload should not ask for what the worker's configuration withholds from containers."
    WORKER_KIND "worker/payload-kind" Error "The worker's configuration must allow payloads of this kind."
    WORKER_RUN_TIME "worker/max-run-time" Error "maxRunTime must not be longer than the worker's configuration allows."
    WORKER_DEVICE "worker/shared-device" Warning "A worker that runs several tasks at a time has one loopback device for all of them."
    WORKER_QUEUE "worker/other-queue" Warning "With a worker's configuration, at least one task should be for its queue."

    TEMPLATE_VERSION "template/version" Error "A template must say `version: 1`."
    TEMPLATE_TASKS "template/tasks" Error "A template must have its tasks under `tasks`, as a list or as an expression that gives one."
    TEMPLATE_KEY "template/key" Warning "A template should have no keys at its top that nobody reads."
    TEMPLATE_OPERATOR "template/operator" Error "A key that begins with one `$` must be an operator of JSON-e."
    TEMPLATE_SHAPE "template/operator-shape" Error "An operator of JSON-e must stand with the keys that belong to it, and with no others."
    TEMPLATE_INTERPOLATION "template/interpolation" Error "Every `${` in a text must end with its `}`."
    TEMPLATE_RENDER "template/render" Error "A template must give tasks when it is rendered for the event that is given."

    CONFIG_SETTING "config/setting" Error "A setting must be known and have the right type."
    CONFIG_VALUE "config/value" Error "The values of a configuration must work together."
    CONFIG_RETIRED "config/retired" Warning "A setting that nobody reads any more should go."
    CONFIG_LATER "config/no-effect" Warning "A setting should not ask for what this version of the worker does not have."
    CONFIG_CONSEQUENCE "config/consequence" Warning "Who sets this should know what follows from it."
}

/// The rule with this name.
pub fn named(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rules_have_names_of_one_shape_and_say_one_sentence() {
        let ids: HashSet<&str> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len(), "two rules have the same name");
        for rule in RULES {
            let (family, name) = rule.id.split_once('/').unwrap_or_default();
            let kebab = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            assert!(kebab(family) && kebab(name), "{}", rule.id);
            assert!(rule.says.ends_with('.') && !rule.says.contains(". "), "{}", rule.says);
            assert_eq!(named(rule.id), Some(*rule));
        }
    }
}
