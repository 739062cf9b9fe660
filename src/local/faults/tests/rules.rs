use http::Method;
use proptest::prelude::*;

use super::super::{
    Faults, Rule,
    plan::{Action, Fate, Plan},
    rule::{After, Described, glob},
};

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn plan(seed: u64, rules: &[&str]) -> Plan {
    let faults = Faults::parse(seed, rules.iter().copied()).unwrap_or_else(|error| panic!("{error}"));
    Plan::new(faults.rules, seed)
}

const CLAIM: Described<'_> = Described {
    method: &Method::POST,
    service: "queue",
    name: "claimWork",
    path: "/api/queue/v1/claim-work/p%2Fw",
    body_bytes: Some(50),
};
const RECLAIM: Described<'_> = Described {
    method: &Method::POST,
    service: "queue",
    name: "reclaimTask",
    path: "/api/queue/v1/task/fN1SbArXTPSVFNUvaOlinQ/runs/0/reclaim",
    body_bytes: Some(0),
};
const UPLOAD: Described<'_> = Described {
    method: &Method::PUT,
    service: "store",
    name: "artifact",
    path: "/storage/fN1SbArXTPSVFNUvaOlinQ/0/public/a",
    body_bytes: Some(3_000_000),
};
const DOWNLOAD: Described<'_> = Described { method: &Method::GET, body_bytes: Some(0), ..UPLOAD };
const CONTENT: Described<'_> = Described {
    method: &Method::GET,
    service: "queue",
    name: "artifact",
    path: "/api/queue/v1/task/fN1SbArXTPSVFNUvaOlinQ/artifact-content/public%2Fa",
    body_bytes: Some(0),
};

fn met(rule: &str, request: Described<'_>) -> bool {
    plan(0, &[rule]).decide(&request) != Fate::default()
}

#[test]
fn a_rule_applies_where_it_says() {
    for (place, claim, upload, download, content) in [
        ("*", true, true, true, true),
        ("POST", true, false, false, false),
        ("GET *", false, false, true, true),
        ("claimWork", true, false, false, false),
        ("PUT claimWork", false, false, false, false),
        ("queue.claimWork", true, false, false, false),
        ("queue.*", true, false, false, true),
        ("*Work", true, false, false, false),
        ("artifact", false, true, true, false),
        ("PUT artifact", false, true, false, false),
        ("queue.artifact", false, false, false, true),
        ("/storage/*", false, true, true, false),
        ("GET /*/public*a", false, false, true, true),
        ("/api/queue/v1/claim-work/*", true, false, false, false),
        ("/api/queue/v1/claim-work", false, false, false, false),
    ] {
        let text = format!("{place}: drop");
        let seen = [CLAIM, UPLOAD, DOWNLOAD, CONTENT].map(|request| met(&text, request));
        assert_eq!(seen, [claim, upload, download, content], "{place}");
    }
}

#[test]
fn a_head_is_a_get_and_a_colon_may_stand_in_a_path() {
    assert!(met("GET artifact: drop", Described { method: &Method::HEAD, ..DOWNLOAD }));
    assert!(met("/storage/*a:b: drop", Described { path: "/storage/x/0/a:b", ..DOWNLOAD }));
    assert!(!met("/storage/*a:b: drop", DOWNLOAD));
    assert!(met("claimWork:drop,first 1", CLAIM));
}

#[test]
fn what_a_rule_does_is_what_it_says() {
    let cases: &[(&str, Described<'_>, Action)] = &[
        ("*: drop request", CLAIM, Action::DropRequest),
        ("*: drop answer", CLAIM, Action::DropAnswer),
        ("*: garbage", CLAIM, Action::Garbage),
        ("*: garbage", DOWNLOAD, Action::NoHttp),
        ("*: garbage http", CLAIM, Action::NoHttp),
        ("*: cut after 1MB", UPLOAD, Action::CutRequest(1_000_000)),
        ("*: cut after 10", CLAIM, Action::CutAnswer(After::Bytes(10))),
        ("*: cut answer after 10", UPLOAD, Action::CutAnswer(After::Bytes(10))),
        ("*: cut request after half", CLAIM, Action::CutRequest(25)),
        ("*: half body", UPLOAD, Action::CutRequest(1_500_000)),
        ("*: half body", DOWNLOAD, Action::CutAnswer(After::Half)),
        ("*: expired", UPLOAD, Action::Expire),
        ("*: stolen", RECLAIM, Action::Steal),
    ];
    for (text, request, expected) in cases {
        assert_eq!(plan(0, &[text]).decide(request).action, Some((0, *expected)), "{text} on {}", request.name);
    }
    let Some((_, Action::Refuse(refused))) = plan(0, &["*: late status 504 retry after 2s"]).decide(&CLAIM).action else {
        panic!("no refusal")
    };
    assert_eq!((refused.status.as_u16(), refused.late, refused.retry_after_secs), (504, true, Some(2)));
}

#[test]
fn a_fault_that_cannot_happen_to_a_request_is_not_counted_for_it() {
    let rules = ["*: expired", "*: stolen", "*: cut request after 1MB, first 1", "*: cut request after half"];
    let mut plan = plan(0, &rules);
    assert_eq!(plan.decide(&CONTENT), Fate::default());
    let short = Described { body_bytes: Some(1_000_000), method: &Method::PUT, ..CONTENT };
    assert_eq!(plan.decide(&short).action, Some((3, Action::CutRequest(500_000))));
    assert_eq!(plan.met(), [0, 0, 0, 1]);
}

#[test]
fn limits_agree() {
    let pattern = |limits: &str| {
        let mut plan = plan(7, &[&format!("*: drop request{limits}")]);
        (0..12).map(|_| if plan.decide(&CLAIM).action.is_some() { 'x' } else { '.' }).collect::<String>()
    };
    assert_eq!(pattern(""), "xxxxxxxxxxxx");
    assert_eq!(pattern(", first 3"), "xxx.........");
    assert_eq!(pattern(", after 4"), "....xxxxxxxx");
    assert_eq!(pattern(", every 5th"), "....x....x..");
    assert_eq!(pattern(", after 2, first 6, every 3"), "....x..x....");
    assert_eq!(pattern(", 0%"), "............");
    assert_eq!(pattern(", 100%, first 1"), "x...........");
}

#[test]
fn a_probability_is_about_what_it_says_and_a_seed_repeats_it() {
    let run = |seed| {
        let mut plan = plan(seed, &["*: drop request, 10%", "*: delay 1s, 50%"]);
        (0..10_000).map(|_| plan.decide(&CLAIM)).collect::<Vec<_>>()
    };
    let (first, again, other) = (run(1), run(1), run(2));
    assert!(first == again && first != other);
    let drops = first.iter().filter(|fate| fate.action.is_some()).count();
    let delays = first.iter().filter(|fate| !fate.delay.is_zero()).count();
    assert!((800..1200).contains(&drops) && (4700..5300).contains(&delays), "{drops} {delays}");
    // Each rule has coins of its own.
    let both = first.iter().filter(|fate| fate.action.is_some() && !fate.delay.is_zero()).count();
    assert!((400..600).contains(&both), "{both}");
}

#[test]
fn delays_add_up_and_the_first_other_rule_decides() {
    let mut plan = plan(0, &["*: delay 1s", "*: drop request, first 1", "claimWork: delay 500ms", "*: garbage"]);
    let fates = [plan.decide(&CLAIM), plan.decide(&CLAIM)];
    assert_eq!(fates.map(|fate| fate.delay.as_millis()), [1500, 1500]);
    assert_eq!(fates.map(|fate| fate.action), [Some((1, Action::DropRequest)), Some((3, Action::Garbage))]);
    assert_eq!(plan.met(), [2, 1, 2, 1]);
}

#[test]
fn an_error_points_at_its_place() {
    for (text, place, message) in [
        ("claimWork", "claimWork", "colon"),
        ("", "", "colon"),
        (": drop", "", "expected where the rule applies"),
        ("claimWrok: drop", "claimWrok", "did you mean `claimWork`?"),
        ("qeue.claimWork: drop", "qeue.claimWork", "did you mean `queue`?"),
        ("index.claimWork: drop", "index.claimWork", "no service has an endpoint"),
        ("PUT artifact now: drop", "now", "expected a colon"),
        ("put artifact: drop", "put", "no service has an endpoint"),
        ("claimWork:", "", "expected what happens"),
        ("claimWork: , 10%", "", "expected what happens"),
        ("claimWork: dorp", "dorp", "did you mean `drop`?"),
        ("claimWork: drop now", "now", "one word too many"),
        ("claimWork: delay", "", "expected a time"),
        ("claimWork: delay 2", "2", "no time"),
        ("claimWork: status 200", "200", "no status from 400 to 599"),
        ("claimWork: late drop", "drop", "expected `status`"),
        ("claimWork: status 503 retry 2s", "2s", "expected `after`"),
        ("PUT artifact: cut aftr 1MB", "aftr", "expected `after`, found `aftr`"),
        ("PUT artifact: cut after 1mb", "1mb", "no size"),
        ("claimWork: expired", "expired", "artifact"),
        ("PUT artifact: stolen", "stolen", "reclaimTask"),
        ("claimWork: drop, often", "often", "first 3"),
        ("claimWork: drop, 101%", "101%", "first 3"),
        ("claimWork: drop, NaN%", "NaN%", "first 3"),
        ("claimWork: drop, first 0", "0", "no number above 0"),
        ("claimWork: drop, first 3rd", "3rd", "no number above 0"),
        ("claimWork: drop, every 5xx", "5xx", "no number above 0"),
        ("claimWork: drop, first 3 10%", "10%", "expected a comma"),
        ("claimWork: drop, 10%, 20%", "20%", "there already"),
        ("claimWork: drop,", "", "expected a limit"),
        ("ünï: drop", "ünï", "no service has an endpoint"),
        ("claimWork: drop, ünï 3, 10%", "ünï", "first 3"),
    ] {
        let error = text.parse::<Rule>().expect_err(text).to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].contains(message), "{error}");
        assert_eq!(lines[1], format!("  {text}"));
        let at = lines[2].find('^').expect("a caret") - 2;
        let width = lines[2].matches('^').count();
        let shown: String = text.chars().skip(at).take(width).collect();
        assert!(shown == place || (place.is_empty() && width == 1), "{error}");
    }
}

#[test]
fn stars_match_anything_and_cost_little() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("*", "", true),
        ("a*", "a", true),
        ("*a", "ba", true),
        ("a*b*c", "axxbyyc", true),
        ("a*b*c", "axxbyy", false),
        ("**", "x", true),
        ("a", "ab", false),
        ("*ab", "aab", true),
        ("*.log", "live.log.log", true),
    ] {
        assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
    }
    assert!(!glob(&"*a".repeat(400), &"b".repeat(100_000)));
}

proptest! {
    /// Whatever is typed, there is a rule or an error that can be shown.
    #[test]
    fn no_text_breaks_the_parser(text in "(claimWork|PUT artifact|\\*|/x\\*)?:? ?(drop|cut after|delay|status|every)?[ ,0-9a-zü%:*/.\u{0}-\u{20}]{0,20}") {
        match text.parse::<Rule>() {
            Ok(parsed) => { prop_assert_eq!(parsed, rule(text.trim())); }
            Err(error) => { prop_assert!(error.to_string().lines().count() >= 2); }
        }
    }
}
