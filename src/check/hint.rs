//! What to do about a problem that says nothing about that itself: advice that holds for everything that breaks the same rule.

use super::rule::Rule;

/// The advice for a rule. Every rule has some.
pub(super) fn of(rule: &Rule) -> Option<&'static str> {
    Some(match rule.id {
        "file/unreadable" => {
            "look at its name and its permissions; a directory stands for the .yml, .yaml and .json files in it"
        }
        "file/too-large" => "check it in parts",
        "file/encoding" => "save the file as UTF-8",
        "file/empty" => "the smallest task file has `command` and `maxRunTime`",
        "file/syntax" => "what is wrong may also stand just before this place",
        "file/tab" => "indent with spaces",
        "file/key-twice" => "one of the two values would be lost",
        "file/depth" => "write it with fewer levels and fewer aliases",
        "file/more" => "mend those above and check again",
        "task/schema" => "the reference of createTask says what each field may be",
        "task/priority" => "without a priority, a task has the lowest one",
        "task/incomplete" => "`exec` fills it in, a deployment does not",
        "graph/node" => "a graph is an object of `LABEL: {label, dependencies: {NAME: LABEL}, task: {…}}`",
        "payload/schema" => "`tc-worker show-payload-schema` prints what a payload may say",
        "payload/limit" => "leave it out, or let the task read it from a file",
        "payload/program" => "a command is a list of a program's name and its arguments",
        "payload/empty-word" => "without `command`, what the image says is run",
        "payload/variable" => "a program takes what is before the first `=` for the name, and cannot ask for an empty one",
        "image/artifact" => "such a name is public/image.tar.zst, in a task that the index calls project.images.latest",
        "image/name" => "such a name is debian:12, or quay.io/owner/name:tag",
        "scope/syntax" => "a scope that ends with one star stands for all scopes that begin with what is before it",
        "scope/missing" => "add it to `scopes`",
        "scope/unexpanded" => "auth.expandScopes of the deployment tells which scopes the roles stand for",
        "dependency/dangling" => "add that task to the graph, or take the dependency out",
        "dependency/not-given" => "give the file of that task, too",
        "dependency/self" => "take it out: the task would never be run",
        "dependency/cycle" => "none of these tasks would ever be run",
        "dependency/too-many" => "let a task in between wait for a part of them",
        "dependency/image" | "dependency/content" => "add it to `dependencies`",
        "dependency/reference" => "names in angle brackets are those under `dependencies` beside `task`",
        "cache/mount-point" => "give it a place of its own: an absolute path in a container, a relative one in a native task",
        "cache/twice" => "mount it once, and use two directories in it",
        "cache/nested" => "put the two beside each other",
        "cache/name" => "use printable ASCII without a star at its end",
        "cache/paths" => "use the same path everywhere, or a cache of another name",
        "cache/kinds" => "give containers a cache of another name",
        "artifact/duplicate" => "give one of them another name",
        "artifact/name" => "such a name is public/build/app.zip",
        "artifact/plain-name" => "give it a `name` such as public/build/app.zip; `exec` saves no artifact with such a name",
        "artifact/path" => "name a file or a directory of the task, where nothing else is",
        "artifact/log" => "choose another name for the artifact",
        "artifact/private" => "publish it below public/",
        "expiry/deadline-before-created" => "move the deadline behind `created`",
        "expiry/deadline-too-far" => "choose a deadline at most 5 days after `created`",
        "expiry/task-before-deadline" => "move `expires` behind the deadline, or leave it out",
        "expiry/artifact-before-deadline" | "expiry/artifact-after-task" | "expiry/artifact-passed" => {
            "leave `expires` out, and the artifact expires with its task"
        }
        "expiry/run-time-beyond-deadline" => "at its deadline, a task is ended whatever time it has left",
        "expiry/dependency-first" => "let that task expire later, or this one have an earlier deadline",
        "name/label-twice" | "name/label-shared" => "give one of them another label: people tell tasks apart by it",
        "name/label-directory" => "the id of the task names the directory instead",
        "name/task-id" | "name/task-id-twice" => "leave taskId out, and the task gets an id of its own",
        "feature/not-offered" => "leave it out, or send the task to a queue of another worker",
        "feature/switched-off" | "feature/withheld" => "leave it out, or let the worker's configuration allow it",
        "worker/payload-kind" => "send the task to the queue of another worker, or let the configuration allow it",
        "worker/max-run-time" => "lower it, or raise maxTaskRunTime in the configuration",
        "worker/shared-device" => "set capacity to 1, or send the task to a queue of its own",
        "worker/other-queue" => "leave --config out, or give the configuration of the worker of these tasks",
        "template/render" => "each template is rendered with the event, the parameters and the names that `exec --help` lists",
        "template/version" => "begin with `version: 1`",
        "template/tasks" => "`tasks` is a list of task definitions, or an expression that gives one",
        "template/key" => "leave it out",
        "template/operator" => "a key that is to begin with one dollar sign is written with two",
        "template/operator-shape" => "the reference of JSON-e shows each operator with its keys",
        "template/interpolation" => "a `${` that is to stay as it is, is written `$${`",
        "config/setting" => "names and types are those of generic-worker's configuration",
        "config/value" => "set it as the message says; `tc-worker run` would not start like this",
        "config/retired" | "config/no-effect" => "take it out",
        "config/consequence" => "nothing has to change if that is what is meant",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::rule::RULES;

    #[test]
    fn every_rule_has_advice() {
        let without: Vec<&str> = RULES.iter().filter(|rule| super::of(rule).is_none()).map(|rule| rule.id).collect();
        assert_eq!(without, [""; 0]);
        for hint in RULES.iter().filter_map(|rule| super::of(rule)) {
            assert!(hint.starts_with(|c: char| !c.is_uppercase()) && !hint.ends_with('.'), "{hint}");
        }
    }
}
