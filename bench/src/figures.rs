//! Named figures of one measurement, and ratios of two contenders'.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Figures by name; the unit is in the name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures(pub BTreeMap<String, f64>);

impl Figures {
    /// Sets one.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// Sets the median and the 99th percentile of lags in milliseconds.
    pub fn set_lags(&mut self, lags: &mut [f64]) {
        self.set("lag p50 ms", percentile(lags, 0.5));
        self.set("lag p99 ms", percentile(lags, 0.99));
    }

    /// The mean of each figure; a round without it counts as 0, as for a kind of request that was not made.
    #[must_use]
    pub fn mean(rounds: &[Self]) -> Self {
        let mut mean = Self::default();
        for (name, value) in rounds.iter().flat_map(|round| &round.0) {
            *mean.0.entry(name.clone()).or_default() += value / rounds.len() as f64;
        }
        mean
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// The workload.
    pub workload: String,
    /// Where the replica went.
    pub place: String,
    /// Means over the rounds.
    pub ours: Figures,
    /// Means over the rounds.
    pub litestream: Figures,
}

impl Comparison {
    /// Name, ours, Litestream's, and ours divided by Litestream's; `None` where that is 0.
    pub fn ratios(&self) -> impl Iterator<Item = (&str, f64, f64, Option<f64>)> + '_ {
        let names: BTreeSet<&String> = self.ours.0.keys().chain(self.litestream.0.keys()).collect();
        names.into_iter().map(|name| {
            let [ours, theirs] =
                [&self.ours, &self.litestream].map(|figures| figures.0.get(name).copied().unwrap_or(0.0));
            (name.as_str(), ours, theirs, (theirs > 0.0).then_some(ours / theirs))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_percentiles_and_ratios() {
        let round = |value| Figures([("cpu s".to_owned(), value)].into());
        assert_eq!(Figures::mean(&[round(1.0), round(3.0)]), round(2.0));
        assert_eq!(percentile(&mut [5.0, 1.0, 3.0], 0.5), 3.0);
        let (workload, place) = ("w".to_owned(), "s3".to_owned());
        let comparison = Comparison { workload, place, ours: round(1.0), litestream: round(4.0) };
        assert_eq!(comparison.ratios().collect::<Vec<_>>(), [("cpu s", 1.0, 4.0, Some(0.25))]);
    }
}
