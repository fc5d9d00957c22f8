//! What the tour says.

use std::fmt::Display;

use super::super::cli::say;

/// What was shown so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    steps: u32,
    passed: u32,
    failed: u32,
}

impl Report {
    pub(super) fn new() -> Report {
        say("heddle demo: a switch, a router and a NAT in user space.\n\
             Every container is a network namespace with the kernel's own TCP/IP stack; every frame \
             between them goes through heddle.\n");
        Report::default()
    }

    /// Begins a step: what it shows, and why that matters.
    pub(super) fn step(&mut self, what: &str, why: &str) {
        self.steps += 1;
        say(&format!("\n{}. {what}\n   {why}\n", self.steps));
    }

    /// Shows the command that does what was just done.
    pub(super) fn command(&self, command: &str) {
        say(&format!("   $ heddle {command}\n"));
    }

    /// Notes the outcome of a check: what was seen, or what was wrong.
    pub(super) fn check(&mut self, what: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(seen) => {
                self.passed += 1;
                let seen = if seen.is_empty() {
                    seen
                } else {
                    format!(": {seen}")
                };
                say(&format!("   ok      {what}{seen}\n"));
            }
            Err(wrong) => {
                self.failed += 1;
                say(&format!("   FAILED  {what}: {wrong}\n"));
            }
        }
    }

    /// Says how it went; the exit status for it.
    pub(super) fn finish(&self) -> u8 {
        let Report { passed, failed, .. } = self;
        say(&format!("\n{passed} checks passed, {failed} failed.\n"));
        u8::from(*failed > 0 || *passed == 0)
    }
}

/// `Ok` if something holds, else what was seen instead.
pub(super) fn expect(holds: bool, seen: impl Display) -> Result<String, String> {
    if holds {
        Ok(seen.to_string())
    } else {
        Err(seen.to_string())
    }
}
