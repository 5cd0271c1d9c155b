//! Judges answers by labels, or by the original's answers.

use onnxseal_engine::Table;

use crate::assessment::{Measure, MetricKind, MetricRow};
use crate::error::{Error, Result};
use crate::heads::largest;
use crate::metric::{Answers, Metric};
use crate::stats::{of_mean, wilson};

/// The ratio reported for equal outputs, in dB.
const MAX_PSNR: f64 = 100.0;

pub(crate) struct Judge<'m> {
    pub(crate) kind: MetricKind,
    custom: Option<&'m dyn Metric>,
    /// The original's answers to all samples.
    pub(crate) original: Table,
    /// For all samples: labels, or the original's classes.
    pub(crate) labels: Option<Vec<u32>>,
    pub(crate) has_labels: bool,
    pub(crate) n_classes: Option<usize>,
    is_class: bool,
    /// The threshold that divides outputs of one number into two classes.
    cut: f32,
    peak: f64,
}

impl<'m> Judge<'m> {
    /// Measures by `custom`; or else by class, if the output is `[N, classes]`, one number
    /// `[N, 1]`, or a class itself (`is_class`); or else by the distance from the original's
    /// output.
    pub(crate) fn new(
        custom: Option<&'m dyn Metric>,
        original: Table,
        labels: Option<&[i64]>,
        is_class: bool,
    ) -> Result<Judge<'m>> {
        let values = original.values.iter().copied();
        let finite = values.filter(|value| value.is_finite());
        let low = finite.clone().fold(f32::INFINITY, f32::min);
        let high = finite.fold(f32::NEG_INFINITY, f32::max);
        let long = original.dims.iter().filter(|dim| **dim > 1).count();
        let n_classes = match (long, original.width == 1) {
            // `[N, classes]`; with labels also `[N, 1, classes]` and the like.
            (1, _) if labels.is_some() || original.dims.len() == 1 => Some(original.width),
            (0, true) if is_class => {
                // An output that is a class itself does not tell the number of classes.
                let label = labels.and_then(|labels| labels.iter().max()).copied();
                let label = usize::try_from(label.unwrap_or(0)).unwrap_or(0);
                Some((high.max(1.0) as usize).max(label).min(1 << 20) + 1)
            }
            (0, true) if labels.is_some() => Some(2),
            _ => None,
        };
        let checked = |labels: &[i64], n_classes: usize| -> Result<Vec<u32>> {
            let label = |(row, &label): (usize, &i64)| match usize::try_from(label) {
                Ok(class) if class < n_classes => Ok(class as u32),
                _ => Err(Error::Label {
                    row,
                    label,
                    n_classes,
                }),
            };
            labels.iter().enumerate().map(label).collect()
        };
        let mut judge = Judge {
            kind: MetricKind::Psnr,
            custom,
            labels: None,
            has_labels: labels.is_some(),
            n_classes,
            is_class,
            cut: if low >= 0.0 && high <= 1.0 { 0.5 } else { 0.0 },
            peak: f64::from(high - low),
            original,
        };
        (judge.kind, judge.labels) = match (labels, n_classes) {
            (Some(labels), Some(n)) => (MetricKind::Accuracy, Some(checked(labels, n)?)),
            (None, Some(n)) if n >= 2 => {
                let class = |row| judge.class(judge.original.row(row)).unwrap_or(0) as u32;
                let classes = (0..judge.original.n_rows()).map(class);
                (MetricKind::Agreement, Some(classes.collect()))
            }
            (Some(_), None) if custom.is_none() => {
                return Err(Error::Usage(format!(
                    "the samples have labels, and the output is {:?} a sample, which has no classes: choose another output, or \
                     give a metric",
                    judge.original.dims
                )));
            }
            (Some(labels), None) => (MetricKind::Psnr, Some(checked(labels, u32::MAX as usize)?)),
            (None, _) => (MetricKind::Psnr, None),
        };
        if custom.is_some() {
            judge.kind = MetricKind::Custom;
        }
        Ok(judge)
    }

    /// Describes the metric for people.
    pub(crate) fn row(&self) -> MetricRow {
        let (name, unit) = match self.kind {
            MetricKind::Accuracy => ("accuracy", ""),
            MetricKind::Agreement => ("agreement with the original", ""),
            MetricKind::Psnr => ("PSNR", "dB"),
            MetricKind::Custom => (self.custom.map_or("metric", |custom| custom.name()), ""),
        };
        MetricRow {
            kind: self.kind,
            name: name.to_owned(),
            unit: unit.to_owned(),
            is_rate: self.is_rate(),
        }
    }

    /// Returns whether the metric is a share of samples.
    pub(crate) fn is_rate(&self) -> bool {
        matches!(self.kind, MetricKind::Accuracy | MetricKind::Agreement)
    }

    /// Returns the class of an output, or `None` if the output is not a number.
    fn class(&self, output: &[f32]) -> Option<usize> {
        match output {
            [] => None,
            some if is_nan(some) => None,
            [one] if self.is_class => (*one >= 0.0).then_some(*one as usize),
            [one] => Some(usize::from(*one > self.cut)),
            many => largest(many.iter().map(|value| f64::from(*value))),
        }
    }

    /// Measures the samples `rows`. `outputs` has all samples.
    pub(crate) fn measure(&self, outputs: &Table, rows: &[usize]) -> Result<Measure> {
        let n_nan = || rows.iter().filter(|row| is_nan(outputs.row(**row))).count();
        if let Some(custom) = self.custom {
            let label = |row: &usize| self.label(*row).unwrap_or(0) as u32;
            let labels: Vec<u32> = rows.iter().map(label).collect();
            let answers = Answers {
                outputs: &outputs.picked(rows),
                original: &self.original.picked(rows),
                rows,
                labels: self.has_labels.then_some(&labels[..]),
            };
            let value = custom.measure(&answers).map_err(Error::Metric)?;
            return Ok(Measure {
                n_nan: n_nan(),
                ..Measure::of(value, None, rows.len())
            });
        }
        if self.is_rate() {
            let class = |row: &usize| self.class(outputs.row(*row));
            let classes: Vec<_> = rows.iter().map(class).collect();
            return Ok(Measure {
                n_nan: n_nan(),
                top5: self.top5(outputs, rows),
                ..self.rate(&classes, rows)
            });
        }
        let (mut ratios, mut errors) = (Vec::new(), Vec::new());
        for row in rows {
            let (output, original) = (outputs.row(*row), self.original.row(*row));
            if is_nan(output) || output.len() != original.len() {
                ratios.push(0.0);
                continue;
            }
            let square = |value: f32| f64::from(value).powi(2);
            let distance: f64 = (output.iter().zip(original).map(|(a, b)| square(a - b))).sum();
            let size: f64 = original.iter().map(|value| square(*value)).sum();
            let mean = distance / output.len().max(1) as f64;
            let ratio = 10.0 * (self.peak * self.peak / mean.max(1e-300)).log10();
            ratios.push(if ratio.is_nan() {
                0.0
            } else {
                ratio.clamp(0.0, MAX_PSNR)
            });
            errors.push((distance / size.max(1e-30)).sqrt());
        }
        let (value, interval) = of_mean(&ratios);
        let relative = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        Ok(Measure {
            n_nan: rows.len() - errors.len(),
            relative_error: (!errors.is_empty()).then_some(relative),
            ..Measure::of(value, Some(interval), rows.len())
        })
    }

    /// Measures the classes found for the samples `rows`, one each.
    pub(crate) fn rate(&self, classes: &[Option<usize>], rows: &[usize]) -> Measure {
        let n = rows.len().max(1) as f64;
        let found = || classes.iter().copied().zip(rows);
        let is_right =
            |(class, row): &(Option<usize>, &usize)| class.is_some() && *class == self.label(**row);
        let agrees = |(class, row): &(Option<usize>, &usize)| {
            class.is_some() && *class == self.class(self.original.row(**row))
        };
        let value = found().filter(is_right).count() as f64 / n;
        let agreement = found().filter(agrees).count() as f64 / n;
        Measure {
            agreement: self.has_labels.then_some(agreement),
            ..Measure::of(value, Some(wilson(value, rows.len())), rows.len())
        }
    }

    /// Measures the constant answer that is best for `rows`.
    pub(crate) fn constant(&self, rows: &[usize]) -> Result<Measure> {
        if self.is_rate() {
            let mut counts = vec![0_usize; self.n_classes.unwrap_or(0)];
            for class in rows.iter().filter_map(|row| self.label(*row)) {
                if let Some(count) = counts.get_mut(class) {
                    *count += 1;
                }
            }
            let most = largest(counts.iter().map(|count| *count as f64));
            return Ok(self.rate(&vec![most; rows.len()], rows));
        }
        let mut mean = vec![0.0_f64; self.original.width];
        for row in rows {
            for (sum, value) in mean.iter_mut().zip(self.original.row(*row)) {
                *sum += f64::from(*value) / rows.len().max(1) as f64;
            }
        }
        let mean: Vec<f32> = mean.into_iter().map(|value| value as f32).collect();
        let outputs = Table {
            dims: self.original.dims.clone(),
            width: self.original.width,
            values: mean.repeat(self.original.n_rows()),
        };
        self.measure(&outputs, rows)
    }

    /// Returns the class of a sample by its label, or by the original.
    pub(crate) fn label(&self, row: usize) -> Option<usize> {
        Some(*self.labels.as_ref()?.get(row)? as usize)
    }

    fn top5(&self, outputs: &Table, rows: &[usize]) -> Option<f64> {
        let is_in = |row: &&usize| {
            let output = outputs.row(**row);
            let of_label = self.label(**row).and_then(|label| output.get(label));
            of_label.is_some_and(|of_label| {
                !is_nan(output) && output.iter().filter(|value| *value > of_label).count() < 5
            })
        };
        let n = rows.iter().filter(is_in).count();
        (outputs.width > 5).then(|| n as f64 / rows.len().max(1) as f64)
    }
}

fn is_nan(output: &[f32]) -> bool {
    output.iter().any(|value| !value.is_finite())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metric::CommandMetric;

    fn table(width: usize, values: &[f32]) -> Table {
        Table {
            dims: vec![width],
            width,
            values: values.to_vec(),
        }
    }

    #[test]
    fn accuracy_counts_what_is_no_number_as_wrong() {
        let original = table(3, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let judge = Judge::new(None, original, Some(&[0, 1, 1]), false).unwrap();
        let outputs = table(3, &[3.0, 1.0, 2.0, f32::NAN, 9.0, 0.0, 0.0, 5.0, 1.0]);
        let measure = judge.measure(&outputs, &[0, 1, 2]).unwrap();
        assert_eq!(measure.value, 2.0 / 3.0);
        assert_eq!((measure.n_nan, measure.n_samples), (1, 3));
        // The original gives the last sample class 2.
        assert_eq!(measure.agreement, Some(1.0 / 3.0));
        assert_eq!(judge.constant(&[0, 1, 2]).unwrap().value, 2.0 / 3.0);
        assert_eq!(judge.row().kind, MetricKind::Accuracy);
    }

    #[test]
    fn labels_out_of_range_are_told_by_row() {
        for (labels, wrong) in [([1, 2], (1, 2, 2)), ([-1, 0], (0, -1, 2))] {
            let judge = Judge::new(None, table(2, &[0.0; 4]), Some(&labels), false);
            let found = match judge {
                Err(Error::Label {
                    row,
                    label,
                    n_classes,
                }) => Some((row, label, n_classes)),
                _ => None,
            };
            assert_eq!(found, Some(wrong));
        }
    }

    #[test]
    fn without_labels_the_originals_answers_count() {
        let original = table(
            6,
            &[1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        );
        let judge = Judge::new(None, original.clone(), None, false).unwrap();
        assert_eq!(judge.measure(&original, &[0, 1]).unwrap().value, 1.0);
        let outputs = table(
            6,
            &[0.0, 9.0, 8.0, 7.0, 6.0, 5.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        );
        let measure = judge.measure(&outputs, &[0, 1]).unwrap();
        assert_eq!((measure.value, measure.top5), (0.5, Some(0.5)));
        assert_eq!(measure.agreement, None);
        assert_eq!(judge.row().kind, MetricKind::Agreement);
    }

    #[test]
    fn other_outputs_are_held_against_the_originals() {
        let original = Table {
            dims: vec![2, 2],
            width: 4,
            values: vec![0.0, 10.0, 5.0, 5.0, 1.0, 1.0, 1.0, 1.0],
        };
        let judge = Judge::new(None, original.clone(), None, false).unwrap();
        assert_eq!(judge.measure(&original, &[0, 1]).unwrap().value, MAX_PSNR);
        let outputs = Table {
            values: original.values.iter().map(|v| v + 1.0).collect(),
            ..original
        };
        let measure = judge.measure(&outputs, &[0, 1]).unwrap();
        assert!((measure.value - 20.0).abs() < 1e-6, "{measure:?}");
        assert_eq!(judge.row().unit, "dB");
        // Labels, but no classes.
        let original = Table {
            dims: vec![2, 2],
            width: 4,
            values: vec![0.0; 4],
        };
        assert!(matches!(
            Judge::new(None, original, Some(&[1]), false),
            Err(Error::Usage(_))
        ));
    }

    #[test]
    fn callers_bring_their_own() {
        let mine = |answers: &Answers<'_>| {
            f64::from(answers.outputs.values[0]) + answers.labels.map_or(0.0, |l| f64::from(l[0]))
        };
        let judge = Judge::new(Some(&mine), table(2, &[0.0; 4]), Some(&[1, 0]), false).unwrap();
        assert_eq!(
            judge.measure(&table(2, &[7.0, 0.0]), &[0]).unwrap().value,
            8.0
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_program_may_measure() {
        let judge = |script: &str| {
            let metric = CommandMetric {
                command: ["sh", "-c", script, "sh"].map(str::to_owned).to_vec(),
            };
            let judge =
                Judge::new(Some(&metric), table(2, &[0.0; 4]), Some(&[1, 0]), false).unwrap();
            judge
                .measure(&table(2, &[7.0, 0.0]), &[0])
                .map(|measure| measure.value)
        };
        assert_eq!(judge("test -s \"$1\" && echo 1.5").unwrap(), 1.5);
        assert!(matches!(judge("echo many"), Err(Error::Metric(_))));
        assert!(matches!(judge("exit 3"), Err(Error::Metric(_))));
    }
}
