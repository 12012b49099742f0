//! Named figures of one measurement, and ratios of two contenders'.

use std::collections::BTreeMap;

use serde::Serialize;

/// Figures by name; the unit is in the name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures(pub BTreeMap<&'static str, f64>);

impl Figures {
    /// Sets one.
    pub fn set(&mut self, name: &'static str, value: f64) {
        self.0.insert(name, value);
    }

    /// The mean of each figure that all rounds have.
    #[must_use]
    pub fn mean(rounds: &[Self]) -> Self {
        let Some(first) = rounds.first() else { return Self::default() };
        let mean = |name: &'static str| {
            let values: Option<Vec<f64>> = rounds.iter().map(|round| round.0.get(name).copied()).collect();
            values.map(|values| (name, values.iter().sum::<f64>() / values.len() as f64))
        };
        Self(first.0.keys().filter_map(|name| mean(name)).collect())
    }
}

/// The value below which `share` of the sorted values lie.
#[must_use]
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Both contenders on one workload.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The workload.
    pub workload: &'static str,
    /// Where the replica went.
    pub place: &'static str,
    /// Means over the rounds.
    pub ours: Figures,
    /// Means over the rounds.
    pub litestream: Figures,
}

impl Comparison {
    /// Ours divided by Litestream's, for each figure both have; `None` where Litestream's is 0.
    pub fn ratios(&self) -> impl Iterator<Item = (&'static str, f64, f64, Option<f64>)> + '_ {
        self.ours.0.iter().filter_map(|(&name, &ours)| {
            let theirs = *self.litestream.0.get(name)?;
            Some((name, ours, theirs, (theirs > 0.0).then_some(ours / theirs)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_percentiles_and_ratios() {
        let round = |value| Figures([("cpu s", value)].into());
        assert_eq!(Figures::mean(&[round(1.0), round(3.0)]), round(2.0));
        assert_eq!(percentile(&mut [5.0, 1.0, 3.0], 0.5), 3.0);
        let comparison = Comparison { workload: "w", place: "s3", ours: round(1.0), litestream: round(4.0) };
        assert_eq!(comparison.ratios().collect::<Vec<_>>(), [("cpu s", 1.0, 4.0, Some(0.25))]);
    }
}
