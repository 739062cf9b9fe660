//! What was found: first with a pointer into a task, at the end with a place in a file.

use tc_payload::Problem;

use super::rule::{Rule, Severity};

/// How many problems of one file are shown.
pub const MOST_SHOWN: usize = 500;

/// A problem whose pointer is relative to the task, or to the file if it is none of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The rule that is broken.
    pub(super) rule: &'static Rule,
    /// The number of the task among those of its file.
    pub(super) task: Option<usize>,
    /// Where and why.
    pub(super) problem: Problem,
}

impl Finding {
    /// A problem of a task whose number is put in later, or of a file.
    pub(super) fn new(rule: &'static Rule, problem: Problem) -> Self {
        Self { rule, task: None, problem }
    }
}

/// The findings of one file. A hostile or a very large one has millions, so only so many are kept; errors are kept rather than
/// warnings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    counted_errors: usize,
    counted_warnings: usize,
}

impl Findings {
    /// Adds one.
    pub(super) fn add(&mut self, finding: Finding) {
        let (kept, counted) = match finding.rule.severity {
            Severity::Error => (&mut self.errors, &mut self.counted_errors),
            Severity::Warning => (&mut self.warnings, &mut self.counted_warnings),
        };
        *counted += 1;
        if kept.len() < MOST_SHOWN {
            kept.push(finding);
        }
    }

    /// Adds a problem of the task with this number.
    pub(super) fn of_task(&mut self, task: usize, rule: &'static Rule, problem: Problem) {
        self.add(Finding { rule, task: Some(task), problem });
    }

    /// Adds a problem of the file.
    pub(super) fn of_file(&mut self, rule: &'static Rule, problem: Problem) {
        self.add(Finding::new(rule, problem));
    }

    /// How many errors there are so far.
    pub(super) fn errors(&self) -> usize {
        self.counted_errors
    }

    /// Adds those of a part of the file that comes behind.
    pub(super) fn extend(&mut self, other: Findings) {
        let lost_errors = other.counted_errors - other.errors.len();
        let lost_warnings = other.counted_warnings - other.warnings.len();
        other.errors.into_iter().chain(other.warnings).for_each(|finding| self.add(finding));
        self.counted_errors += lost_errors;
        self.counted_warnings += lost_warnings;
    }

    /// Those to show, and how many errors and warnings there are in all.
    pub(super) fn shown(self) -> (Vec<Finding>, usize, usize) {
        let mut shown = self.errors;
        shown.extend(self.warnings.into_iter().take(MOST_SHOWN - shown.len()));
        (shown, self.counted_errors, self.counted_warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rule, *};

    #[test]
    fn errors_are_kept_rather_than_warnings_and_all_are_counted() {
        let mut all = Findings::default();
        for part in 0..3 {
            let mut findings = Findings::default();
            for number in 0..MOST_SHOWN + 10 {
                findings.of_task(number, &rule::CACHE_NAME, Problem::new("", format!("{part}")));
            }
            findings.of_file(&rule::FILE_SYNTAX, Problem::new("", "x"));
            all.extend(findings);
        }
        let (shown, errors, warnings) = all.shown();
        assert_eq!((shown.len(), errors, warnings), (MOST_SHOWN, 3, 3 * (MOST_SHOWN + 10)));
        assert_eq!(shown.iter().filter(|finding| finding.rule.severity == Severity::Error).count(), 3);
    }
}
