//! The findings as a table.

use std::fmt::Write as _;

use super::{Finding, WHAT};
use crate::behaviour::verdict::Verdict;

/// The findings as a table in Markdown: a line a probe, a column a peer and family, and behind it what
/// was seen instead where something fails.
pub(crate) fn markdown(findings: &[Finding]) -> String {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    let mut probes: Vec<&Finding> = Vec::new();
    for finding in findings {
        if !columns.contains(&(finding.peer, finding.family)) {
            columns.push((finding.peer, finding.family));
        }
        if !probes.iter().any(|known| known.probe == finding.probe) {
            probes.push(finding);
        }
    }
    let mut text = format!("| {WHAT} | asked for by |");
    for (peer, family) in &columns {
        let _ = write!(text, " {peer} {family} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(columns.len()));
    for probe in &probes {
        let _ = write!(text, "\n| {} | {} |", probe.shows, probe.asked_by);
        for column in &columns {
            let found = findings.iter().find(|finding| {
                finding.probe == probe.probe && (finding.peer, finding.family) == *column
            });
            let word = found.map_or("", |found| found.verdict.word());
            let _ = write!(text, " {word} |");
        }
    }
    let _ = write!(text, "\n| lines passed | |");
    for column in &columns {
        let of = |finding: &&Finding| (finding.peer, finding.family) == *column;
        let count = |is_it: fn(&Verdict) -> bool| {
            let those = findings.iter().filter(of);
            those.filter(|finding| is_it(&finding.verdict)).count()
        };
        let passed = count(|verdict| matches!(verdict, Verdict::Pass(_)));
        let asked = count(|verdict| !matches!(verdict, Verdict::NotApplicable(_)));
        let _ = write!(text, " {passed} of {asked} |");
    }
    text.push_str("\n\n");
    for probe in probes {
        let notes: Vec<String> = note(findings, probe.probe);
        if !notes.is_empty() {
            let _ = writeln!(text, "- {}: {}", probe.shows, notes.join("; "));
        }
    }
    text
}

/// What was seen of one probe, peer by peer: once where both families agree.
fn note(findings: &[Finding], probe: &str) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let those = findings.iter().filter(|finding| finding.probe == probe);
    for finding in those.filter(|finding| !finding.verdict.detail().is_empty()) {
        let note = format!("{}: {}", finding.peer, finding.verdict.detail());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(probe: &'static str, peer: &'static str, verdict: Verdict) -> [Finding; 2] {
        ["IPv4", "IPv6"].map(|family| Finding {
            probe,
            shows: "it works",
            asked_by: "RFC 1",
            peer,
            family,
            verdict: verdict.clone(),
        })
    }

    #[test]
    fn a_line_has_a_word_for_each_peer_and_family_and_failures_are_told_once() {
        let all = [
            finding("one", "kernel", Verdict::Fail("it does not".to_owned())),
            finding("two", "kernel", Verdict::Pass(String::new())),
            finding(
                "one",
                "heddle",
                Verdict::NotApplicable("nobody asks".to_owned()),
            ),
        ]
        .concat();
        let text = markdown(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| it works | RFC 1 | FAIL | FAIL | n.a. | n.a. |");
        assert_eq!(lines[3], "| it works | RFC 1 | pass | pass |  |  |");
        assert_eq!(
            lines[4],
            "| lines passed | | 1 of 2 | 1 of 2 | 0 of 0 | 0 of 0 |"
        );
        assert_eq!(
            lines[6],
            "- it works: kernel: it does not; heddle: nobody asks"
        );
        assert_eq!(lines.len(), 7, "{text}");
    }
}
