//! What people ask of tasks, groups and workers, and what everybody may look at.

use super::{MOST_RUNS, Model};

impl Model {
    fn before_deadline(&mut self, now: i64, task: usize) -> Result<usize, String> {
        self.advance(now);
        let at = self.at(task)?;
        if self.tasks[at].spec.deadline <= now { Err("conflict".into()) } else { Ok(at) }
    }

    pub(in super::super) fn schedule(&mut self, now: i64, task: usize) -> Result<String, String> {
        let at = self.before_deadline(now, task)?;
        if self.tasks[at].runs.is_empty() {
            self.add_run(now, at, "scheduled");
        }
        self.serve(now);
        Ok(self.tasks[at].show())
    }

    pub(in super::super) fn rerun(&mut self, now: i64, task: usize) -> Result<String, String> {
        let at = self.before_deadline(now, task)?;
        let task = &mut self.tasks[at];
        if task.runs.is_empty() || !task.is_open() {
            if task.runs.len() >= MOST_RUNS {
                return Err("conflict".into());
            }
            task.retries_left = task.spec.retries.min(MOST_RUNS - task.runs.len() - 1);
            self.add_run(now, at, "rerun");
            self.serve(now);
        }
        Ok(self.tasks[at].show())
    }

    pub(in super::super) fn cancel(&mut self, now: i64, task: usize) -> Result<String, String> {
        let at = self.before_deadline(now, task)?;
        if self.tasks[at].is_open() {
            self.end_task(now, at, "canceled");
            self.serve(now);
        }
        Ok(self.tasks[at].show())
    }

    pub(in super::super) fn prioritize(&mut self, now: i64, task: usize, priority: usize) -> Result<String, String> {
        self.advance(now);
        let at = self.at(task)?;
        if !self.tasks[at].is_open() {
            return Err("conflict".into());
        }
        self.tasks[at].priority = priority;
        Ok(self.tasks[at].show())
    }

    /// Members by their ids.
    pub(in super::super) fn members(&self, group: usize) -> Vec<usize> {
        let mut members: Vec<_> =
            self.tasks.iter().map(|task| &task.spec).filter(|spec| spec.group == group).map(|s| s.task).collect();
        members.sort_unstable();
        members
    }

    pub(in super::super) fn group(&self, group: usize) -> Result<String, String> {
        let of_group = || self.tasks.iter().map(|task| &task.spec).filter(|spec| spec.group == group);
        let expires = of_group().map(|spec| spec.expires).max().ok_or("not found")?;
        let scheduler = of_group().map(|spec| spec.scheduler).next().expect("a member");
        Ok(format!("s{scheduler} {expires} {:?}", self.sealed.get(&group)))
    }

    pub(in super::super) fn seal(&mut self, now: i64, group: usize) -> Result<String, String> {
        self.advance(now);
        self.group(group)?;
        self.sealed.entry(group).or_insert(now);
        self.group(group)
    }

    /// Cancels some members, all of them before anybody hears of any.
    pub(in super::super) fn cancel_group(&mut self, now: i64, group: usize, members: &[usize]) -> Result<Vec<usize>, String> {
        self.advance(now);
        self.group(group)?;
        if !self.sealed.contains_key(&group) {
            return Err("conflict".into());
        }
        let places: Vec<usize> =
            members.iter().filter_map(|task| self.find(*task)).filter(|at| self.tasks[*at].is_open()).collect();
        for at in &places {
            self.close(now, *at, "canceled");
        }
        for at in &places {
            self.release(now, *at);
        }
        self.serve(now);
        Ok(places.iter().map(|at| self.tasks[*at].spec.task).collect())
    }

    pub(in super::super) fn prioritize_group(&mut self, now: i64, group: usize, priority: usize) -> Result<Vec<usize>, String> {
        self.advance(now);
        self.group(group)?;
        let mut changed = Vec::new();
        for task in self.members(group) {
            let at = self.find(task).expect("a member");
            if self.tasks[at].is_open() && self.tasks[at].priority != priority {
                self.tasks[at].priority = priority;
                changed.push(task);
            }
        }
        Ok(changed)
    }

    pub(in super::super) fn quarantine(&mut self, now: i64, queue: usize, worker: usize, until: i64) -> Result<(), String> {
        self.advance(now);
        if !self.seen.contains(&(queue, worker)) {
            return Err("not found".into());
        }
        self.quarantine.insert((queue, worker), until);
        Ok(())
    }

    pub(in super::super) fn show(&self, task: usize) -> Result<String, String> {
        self.at(task).map(|at| self.tasks[at].show())
    }

    /// Who depends on a task, by their ids.
    pub(in super::super) fn dependents(&self, task: usize) -> Result<Vec<usize>, String> {
        self.at(task)?;
        let mut found: Vec<_> =
            self.tasks.iter().map(|task| &task.spec).filter(|spec| spec.on.contains(&task)).map(|spec| spec.task).collect();
        found.sort_unstable();
        Ok(found)
    }
}
