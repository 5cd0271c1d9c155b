//! Sets of byte positions in one file.

use std::ops::Range;

use onnxseal_onnx::model::Span;

/// Byte positions in one file, as sorted spans with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanSet(Vec<Span>);

impl SpanSet {
    /// The union of `spans`. They may overlap, in any order.
    pub(crate) fn union(mut spans: Vec<Span>) -> SpanSet {
        // A tensor may have millions of spans, already sorted.
        if !spans.is_sorted() {
            spans.sort_unstable();
        }
        // `dedup_by` drops `next` where the closure has joined it to `last`.
        spans.dedup_by(|next, last| {
            let joins = next.start <= last.end();
            if joins {
                last.len = last.end().max(next.end()) - last.start;
            }
            joins
        });
        spans.retain(|span| span.len > 0);
        SpanSet(spans)
    }

    /// Fills `into` with the parts of the set inside `window`, relative to the window's start.
    pub(crate) fn within(&self, window: Span, into: &mut Vec<Range<usize>>) {
        into.clear();
        let first = self.0.partition_point(|span| span.end() <= window.start);
        let spans = self.0.iter().skip(first);
        let spans = spans.take_while(|span| span.start < window.end());
        into.extend(spans.filter_map(|span| part(*span, window)));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> {
        self.0.iter().copied()
    }
}

/// Returns the part of `span` inside `window`, relative to the window's start.
pub(crate) fn part(span: Span, window: Span) -> Option<Range<usize>> {
    let (start, end) = (span.start.max(window.start), span.end().min(window.end()));
    (start < end).then(|| (start - window.start) as usize..(end - window.start) as usize)
}

pub(crate) fn unions(some: &[SpanSet], others: &[SpanSet]) -> Vec<SpanSet> {
    let pairs = some.iter().zip(others);
    pairs
        .map(|(some, others)| SpanSet::union(some.iter().chain(others.iter()).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, len: u64) -> Span {
        Span { start, len }
    }

    #[test]
    fn union_merges_what_touches_or_overlaps() {
        let set = SpanSet::union(vec![
            span(20, 5),
            span(0, 4),
            span(4, 2),
            span(22, 9),
            span(40, 0),
        ]);
        assert_eq!(set.0, [span(0, 6), span(20, 11)]);
    }

    #[test]
    fn a_span_inside_another_adds_nothing() {
        assert_eq!(
            SpanSet::union(vec![span(0, 100), span(10, 5), span(99, 1)]).0,
            [span(0, 100)]
        );
    }

    #[test]
    fn every_window_gives_what_a_byte_map_gives() {
        let set = SpanSet::union(vec![span(3, 4), span(10, 1), span(12, 8)]);
        let mut parts = Vec::new();
        for start in 0..24u64 {
            for len in 0..24u64 {
                set.within(span(start, len), &mut parts);
                let mut found = vec![false; len as usize];
                parts.iter().for_each(|part| found[part.clone()].fill(true));
                assert!(parts.iter().all(|part| !part.is_empty()));
                for (i, found) in found.into_iter().enumerate() {
                    let at = start + i as u64;
                    let expected = set.iter().any(|s| s.start <= at && at < s.end());
                    assert_eq!(found, expected, "window {start}+{len}, byte {at}");
                }
            }
        }
    }
}
