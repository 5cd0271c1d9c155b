//! Decides which model begins when, within the limits of jobs and memory.

use std::collections::VecDeque;

/// How many models per job may overtake one that waits for memory.
const OVERTAKING: usize = 4;

/// The waiting models, and the memory of the running ones.
///
/// Models begin in order. While the first does not fit beside the running ones, later ones that fit
/// overtake it, so that no core waits, up to a limit, so that it does not wait for ever.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Index, and need in bytes, at most the budget.
    waiting: VecDeque<(usize, u64)>,
    jobs: usize,
    budget: u64,
    running: usize,
    used: u64,
    overtaken: usize,
}

/// The next step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Begin the model with this index; call [`finished`](Schedule::finished) with this many bytes
    /// after it.
    Begin(usize, u64),
    /// Ask again when a model has finished.
    Wait,
    /// Nothing is left to begin.
    Done,
}

impl Schedule {
    /// Schedules models that need `needs` bytes each, `jobs` at once, within `budget` bytes. A
    /// model that needs more than that runs alone.
    pub(crate) fn new(needs: impl Iterator<Item = u64>, jobs: usize, budget: u64) -> Schedule {
        let budget = budget.max(1);
        let needs = needs.map(|need| need.clamp(1, budget));
        Schedule {
            waiting: needs.enumerate().collect(),
            jobs: jobs.max(1),
            budget,
            running: 0,
            used: 0,
            overtaken: 0,
        }
    }

    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }

    pub(crate) fn next(&mut self) -> Next {
        if self.waiting.is_empty() {
            return Next::Done;
        }
        if self.running == self.jobs {
            return Next::Wait;
        }
        let free = self.budget - self.used;
        let Some(place) = self.waiting.iter().position(|(_, need)| *need <= free) else {
            return Next::Wait;
        };
        if place > 0 && self.overtaken >= OVERTAKING * self.jobs {
            return Next::Wait;
        }
        self.overtaken = match place {
            0 => 0,
            _ => self.overtaken + 1,
        };
        let Some((index, need)) = self.waiting.remove(place) else {
            return Next::Done;
        };
        self.running += 1;
        self.used += need;
        Next::Begin(index, need)
    }

    /// Frees the `need` bytes of a finished model.
    pub(crate) fn finished(&mut self, need: u64) {
        self.running -= 1;
        self.used -= need;
    }

    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(schedule: &mut Schedule) -> Vec<usize> {
        let mut begun = Vec::new();
        while let Next::Begin(index, _) = schedule.next() {
            begun.push(index);
        }
        begun
    }

    #[test]
    fn models_begin_in_order_as_jobs_allow() {
        let mut schedule = Schedule::new([1, 1, 1].into_iter(), 2, 100);
        assert_eq!(begin(&mut schedule), [0, 1]);
        assert_eq!(schedule.next(), Next::Wait);
        schedule.finished(1);
        assert_eq!(begin(&mut schedule), [2]);
        assert_eq!(schedule.next(), Next::Done);
    }

    #[test]
    fn a_model_larger_than_the_budget_runs_alone() {
        let mut schedule = Schedule::new([5, 1000, 5].into_iter(), 4, 100);
        assert_eq!(begin(&mut schedule), [0, 2]);
        schedule.finished(5);
        assert_eq!(schedule.next(), Next::Wait);
        schedule.finished(5);
        assert_eq!(schedule.next(), Next::Begin(1, 100));
        assert_eq!(schedule.next(), Next::Done);
        let mut schedule = Schedule::new([1000, 0].into_iter(), 4, 100);
        assert_eq!(begin(&mut schedule), [0]);
        assert_eq!(schedule.next(), Next::Wait);
    }

    #[test]
    fn a_large_model_is_overtaken_but_not_for_ever() {
        let small = std::iter::repeat_n(10, 1000);
        let needs = [10, 95].into_iter().chain(small);
        let mut schedule = Schedule::new(needs, 2, 100);
        assert_eq!(schedule.next(), Next::Begin(0, 10));
        let mut overtaking = 0;
        // One of two jobs always runs a small model.
        while let Next::Begin(index, need) = schedule.next() {
            assert_ne!(index, 1);
            overtaking += 1;
            schedule.finished(need);
        }
        assert_eq!(overtaking, 8);
        schedule.finished(10);
        assert_eq!(schedule.next(), Next::Begin(1, 95));
        assert_eq!(schedule.next(), Next::Wait);
        schedule.finished(95);
        assert_eq!(begin(&mut schedule), [10, 11]);
    }

    #[test]
    fn whatever_the_needs_all_run_once_and_the_budget_holds() {
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            (seed >> 33) % below
        };
        for round in 0..200 {
            let (jobs, budget) = (1 + random(5) as usize, 1 + random(100));
            let needs: Vec<u64> = (0..50).map(|_| random(120)).collect();
            let mut schedule = Schedule::new(needs.iter().copied(), jobs, budget);
            let (mut running, mut begun) = (Vec::new(), Vec::new());
            loop {
                match schedule.next() {
                    Next::Begin(index, need) => {
                        running.push((index, need));
                        begun.push(index);
                        let used: u64 = running.iter().map(|(index, _)| needs[*index]).sum();
                        assert!(running.len() <= jobs);
                        assert!(used <= budget || running.len() == 1, "round {round}");
                    }
                    Next::Wait => {
                        assert!(!running.is_empty(), "it waits for nothing");
                        let (_, need) = running.swap_remove(random(running.len() as u64) as usize);
                        schedule.finished(need);
                    }
                    Next::Done => break,
                }
            }
            begun.sort_unstable();
            assert_eq!(begun, (0..50).collect::<Vec<_>>());
        }
    }
}
