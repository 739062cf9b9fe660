//! The roster: a file of clients and roles that a server is started with.
//!
//! ```yaml
//! clients:
//!   - clientId: project/me
//!     accessToken: …            # 22 to 66 letters, digits, `-` and `_`
//!     scopes: ["queue:create-task:*", "assume:repo:me/*"]
//!     description: optional
//!     expires: 2030-01-31T12:00:00.000Z   # optional
//! roles:
//!   - roleId: repo:*
//!     scopes: ["queue:route:index.project.<..>.*"]
//!   - roleId: anonymous         # what everybody may do; replaces the built-in one
//!     scopes: []
//! websocktunnelSecret: …        # optional: signs tokens for websocktunnel
//! ```
//! JSON of the same shape is fine, too. The file holds secrets, so one that others can read is refused, as OpenSSH refuses keys.

use std::{collections::BTreeMap, fmt, io, os::unix::fs::MetadataExt as _, path::Path};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tc_payload::{Document, MAX_DOCUMENT_BYTES, Problem, apply_places, escape_pointer_segment, nearest};

use super::{
    QUEUE_CLIENT,
    client::{Client, is_access_token, is_client_id, is_role_id, never},
    is_scope,
    roles::{Role, Roles},
};

/// Secrets that sign tokens for websocktunnel are not shorter.
const SHORTEST_SECRET: usize = 22;

/// Clients and roles, checked. Not `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct Roster {
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) roles: BTreeMap<String, Role>,
    pub(super) tunnel_secret: Option<String>,
}

/// Why a roster was not taken. Shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// It cannot be read.
    #[error("read clients file \"{path}\": {error}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Others can read it.
    #[error(
        "clients file \"{path}\" can be read by others (its mode is {mode:04o}); it holds access tokens\n  hint: chmod 600 {path}"
    )]
    Open {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// What it says is wrong.
    #[error("{}", Lines(.0))]
    Wrong(Vec<Problem>),
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Roster {
    /// Reads and checks a file; every problem is found, with its file, line and column.
    pub fn read(path: &Path) -> Result<Self, RosterError> {
        let name = path.display().to_string();
        let failed = |error: io::Error| RosterError::Read { path: name.clone(), error };
        // Opened once, so that what is looked at is what is read.
        let file = std::fs::File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o077 != 0 {
            return Err(RosterError::Open { path: name, mode: metadata.mode() & 0o7777 });
        }
        let mut bytes = Vec::new();
        // One byte more, so that a longer file is told from one that just fits.
        io::Read::read_to_end(&mut io::Read::take(file, MAX_DOCUMENT_BYTES as u64 + 1), &mut bytes).map_err(failed)?;
        Self::parse(&name, &bytes).map_err(RosterError::Wrong)
    }

    /// Whether it has a client of this name.
    pub(crate) fn has_client(&self, client_id: &str) -> bool {
        self.clients.contains_key(client_id)
    }

    /// Reads what such a file holds.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        let document = Document::parse(name, bytes).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let mut roster = Self::default();
        if let Some(mut root) = Entry::of(document.value(), String::new(), &mut problems) {
            root.only(&["clients", "roles", "websocktunnelSecret"]);
            roster.tunnel_secret = root.text("websocktunnelSecret", false, |text| {
                (text.len() < SHORTEST_SECRET).then(|| format!("must have at least {SHORTEST_SECRET} characters"))
            });
            root.each("clients", |entry| read_client(entry, &mut roster.clients));
            root.each("roles", |entry| read_role(entry, &mut roster.roles));
        }
        if problems.is_empty() {
            problems.extend(endless_roles(&roster.roles, document.value()));
        }
        if problems.is_empty() {
            return Ok(roster);
        }
        apply_places(&mut problems, &document, "");
        problems.sort_by_key(|problem| problem.place);
        Err(problems)
    }
}

fn read_client(mut entry: Entry<'_>, clients: &mut BTreeMap<String, Client>) {
    entry.only(&["clientId", "accessToken", "scopes", "description", "expires", "disabled"]);
    let id = entry.text("clientId", true, |id| {
        if id == QUEUE_CLIENT {
            return Some("is the name of the server's own client".to_owned());
        }
        (!is_client_id(id)).then(|| "must be made of letters, digits and `!@/:.+|_-`".to_owned())
    });
    let token = entry.text("accessToken", true, |token| {
        (!is_access_token(token)).then(|| "must have 22 to 66 letters, digits, `-` and `_`".to_owned())
    });
    let description = entry.text("description", false, |_| None).unwrap_or_default();
    let expires = entry.date("expires");
    let disabled = entry.flag("disabled");
    let scopes = entry.scopes();
    let (Some(id), Some(token)) = (id, token) else { return };
    let client = Client {
        expires: expires.unwrap_or_else(never),
        disabled,
        ..Client::lasting(token, scopes, &description, Timestamp::UNIX_EPOCH)
    };
    if clients.insert(id, client).is_some() {
        entry.problem("clientId", "is there twice");
    }
}

fn read_role(mut entry: Entry<'_>, roles: &mut BTreeMap<String, Role>) {
    entry.only(&["roleId", "scopes", "description"]);
    let id = entry.text("roleId", true, |id| (!is_role_id(id)).then(|| "must be printable ASCII".to_owned()));
    let description = entry.text("description", false, |_| None).unwrap_or_default();
    let scopes = entry.scopes();
    let Some(id) = id else { return };
    let since = Timestamp::UNIX_EPOCH;
    if roles.insert(id, Role { scopes, description, created: since, last_modified: since }).is_some() {
        entry.problem("roleId", "is there twice");
    }
}

/// Roles that make up scopes without end, at their places in the list.
fn endless_roles(roles: &BTreeMap<String, Role>, value: &Value) -> Vec<Problem> {
    let all = Roles(roles.clone());
    let listed = value.get("roles").and_then(Value::as_array).into_iter().flatten();
    let ids = listed.enumerate().filter_map(|(at, role)| Some((at, role.get("roleId")?.as_str()?)));
    ids.filter_map(|(at, id)| {
        let endless = all.endless(id)?;
        Some(Problem::new(format!("/roles/{at}/scopes"), endless.to_string()))
    })
    .collect()
}

/// An object of the file, with its place.
struct Entry<'a> {
    object: &'a Map<String, Value>,
    pointer: String,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Entry<'a> {
    fn of(value: &'a Value, pointer: String, problems: &'a mut Vec<Problem>) -> Option<Self> {
        let Some(object) = value.as_object() else {
            problems.push(Problem::wrong_type(pointer, "object", value));
            return None;
        };
        Some(Self { object, pointer, problems })
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape_pointer_segment(name))
    }

    fn problem(&mut self, name: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(self.at(name), message));
    }

    fn only(&mut self, known: &[&str]) {
        for name in self.object.keys().filter(|name| !known.contains(&name.as_str())) {
            let mut problem = Problem::new(self.at(name), "is not a field here");
            problem.at_key = true;
            if let Some(meant) = nearest(name, known.iter().copied()) {
                problem = problem.with_hint(format!("perhaps `{meant}` is meant"));
            }
            self.problems.push(problem);
        }
    }

    /// A text; `wrong` says what is wrong with it. The text itself is never shown, as it may be a secret.
    fn text(&mut self, name: &str, required: bool, wrong: impl FnOnce(&str) -> Option<String>) -> Option<String> {
        match self.object.get(name) {
            None if required => {
                self.problems.push(Problem::new(self.pointer.clone(), format!("{name} is required")));
                None
            }
            None => None,
            Some(Value::String(text)) => match wrong(text) {
                None => Some(text.clone()),
                Some(rule) => {
                    self.problem(name, rule);
                    None
                }
            },
            Some(_) => {
                self.problem(name, "must be a string");
                None
            }
        }
    }

    fn date(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.text(name, false, |text| {
            text.parse::<Timestamp>().is_err().then(|| "must be a date and time like 2030-01-31T12:00:00.000Z".to_owned())
        })?;
        text.parse().ok()
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.object.get(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.problem(name, "must be true or false");
                false
            }
        }
    }

    fn scopes(&mut self) -> Vec<String> {
        let mut scopes = Vec::new();
        let Some(value) = self.object.get("scopes") else {
            self.problems.push(Problem::new(self.pointer.clone(), "scopes is required"));
            return scopes;
        };
        let Some(list) = value.as_array() else {
            self.problem("scopes", "must be a list");
            return scopes;
        };
        for (at, entry) in list.iter().enumerate() {
            if let Some(scope) = entry.as_str().filter(|scope| is_scope(scope) && !scope.ends_with("**")) {
                scopes.push(scope.to_owned());
            } else {
                let pointer = format!("{}/{at}", self.at("scopes"));
                self.problems.push(Problem::new(pointer, "must be a scope: printable ASCII that does not end with two stars"));
            }
        }
        scopes
    }

    /// Each object of a list that may be missing.
    fn each(&mut self, name: &str, mut read: impl FnMut(Entry<'_>)) {
        let Some(value) = self.object.get(name) else { return };
        let Some(list) = value.as_array() else {
            self.problem(name, "must be a list");
            return;
        };
        for (at, value) in list.iter().enumerate() {
            let pointer = format!("{}/{at}", self.at(name));
            if let Some(entry) = Entry::of(value, pointer, self.problems) {
                read(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TOKEN: &str = "no-real-secret-no-real-secret-no-real-secret";

    #[test]
    fn a_roster_in_yaml_or_json() {
        let yaml = format!(
            "clients:\n  - clientId: a/b\n    accessToken: {TOKEN}\n    scopes: [x, 'assume:r:*']\n    expires: 2030-01-31T12:00:00Z\n\
             roles:\n  - roleId: r:*\n    scopes: ['y:<..>']\nwebsocktunnelSecret: {TOKEN}\n"
        );
        let json = serde_json::json!({
            "clients": [{ "clientId": "a/b", "accessToken": TOKEN, "scopes": ["x", "assume:r:*"], "expires": "2030-01-31T12:00:00Z" }],
            "roles": [{ "roleId": "r:*", "scopes": ["y:<..>"] }], "websocktunnelSecret": TOKEN,
        });
        for text in [yaml, json.to_string()] {
            let roster = Roster::parse("f", text.as_bytes()).expect("a roster");
            let client = &roster.clients["a/b"];
            assert_eq!((&*client.access_token, &client.scopes[..]), (TOKEN, &["x".to_owned(), "assume:r:*".to_owned()][..]));
            assert_eq!(client.expires, "2030-01-31T12:00:00Z".parse().expect("a date"));
            assert_eq!(roster.roles["r:*"].scopes, ["y:<..>"]);
            assert_eq!(roster.tunnel_secret.as_deref(), Some(TOKEN));
        }
    }

    #[test]
    fn every_problem_has_its_place_and_no_secret_is_shown() {
        let text = "clients:\n  - clientId: 'no spaces'\n    accessToken: shortsecret\n    scopes: [ok, \"\\x01\", 'a**']\n  - clientID: a\n    scopes: x\n\
                    roles:\n  - roleId: a*\n    scopes: []\n  - roleId: a*\n    scopes: []\n    x: 1\nwebsocktunnelSecret: brief\n";
        let problems = Roster::parse("c.yml", text.as_bytes()).map(drop).expect_err("problems");
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let all = shown.join("\n");
        for expected in [
            "c.yml:2:15: clients.0.clientId: must be made of",
            "c.yml:3:18: clients.0.accessToken: must have 22 to 66",
            "c.yml:4:18: clients.0.scopes.1: must be a scope",
            "c.yml:4:26: clients.0.scopes.2: must be a scope",
            "clients.1: clientId is required",
            "clients.1: accessToken is required",
            "perhaps `clientId` is meant",
            "c.yml:6:13: clients.1.scopes: must be a list",
            "c.yml:10:13: roles.1.roleId: is there twice",
            "c.yml:12:5: roles.1.x: is not a field here",
            "websocktunnelSecret: must have at least 22",
        ] {
            assert!(all.contains(expected), "{expected:?} is not in\n{all}");
        }
        assert!(!all.contains("shortsecret") && !all.contains("brief"), "{all}");
    }

    #[test]
    fn the_server_s_own_client_is_not_for_others() {
        let text = format!("clients:\n  - clientId: {QUEUE_CLIENT}\n    accessToken: {TOKEN}\n    scopes: []\n");
        let problems = Roster::parse("c.yml", text.as_bytes()).map(drop).expect_err("a problem");
        assert_eq!(problems[0].to_string(), "c.yml:2:15: clients.0.clientId: is the name of the server's own client");
    }

    #[test]
    fn roles_without_end_are_refused() {
        let text = "roles:\n  - roleId: a*\n    scopes: ['assume:a<..>x']\n  - roleId: b\n    scopes: ['assume:b']\n";
        let problems = Roster::parse("c.yml", text.as_bytes()).map(drop).expect_err("a problem");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().starts_with("c.yml:3:13: roles.0.scopes: the roles expand"), "{}", problems[0]);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("clients.yml");
        std::fs::write(&path, "clients: []\n").expect("a file");
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("permissions");
            let read = Roster::read(&path);
            assert_eq!(read.is_ok(), fine, "{mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
        }
        let other = Roster::read(dir.path()).map(drop).expect_err("no file");
        assert!(other.to_string().contains("is a directory"), "{other}");
        let missing = Roster::read(&dir.path().join("none")).map(drop).expect_err("nothing there");
        assert!(missing.to_string().contains("none\": "), "{missing}");
    }
}
