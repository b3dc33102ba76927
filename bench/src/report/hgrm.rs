//! Percentile tables as the HdrHistogram tools print and plot them.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Lines between two halvings of what is beyond them, as the tools have it.
const STEPS: u32 = 5;
/// Values are shown in milliseconds, which the plotting tools take for granted.
const UNIT_NS: f64 = 1e6;

/// The distribution of `histogram`, which is in nanoseconds, as text.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in histogram.iter_quantiles(STEPS) {
        total += step.count_since_last_iteration();
        let value = milliseconds(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        let _ = write!(out, "{value:>12.6} {quantile:>14.12} {total:>10}");
        if quantile < 1.0 {
            let _ = write!(out, " {:>14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let buckets = histogram.buckets();
    let sub_buckets = histogram.distinct_values() * 2 / (usize::from(buckets) + 1);
    let _ = write!(
        out,
        "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]\n\
         #[Max     = {:>12.6}, Total count    = {:>12}]\n\
         #[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]\n",
        histogram.mean() / UNIT_NS,
        histogram.stdev() / UNIT_NS,
        milliseconds(histogram.max()),
        histogram.len(),
    );
    out
}

#[expect(clippy::cast_precision_loss, reason = "an hour of nanoseconds is far below 2^53")]
fn milliseconds(duration_ns: u64) -> f64 {
    duration_ns as f64 / UNIT_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_tools_own() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        (1..=4u64).for_each(|number| histogram.record(number * 1_000).unwrap());
        let golden = concat!(
            "       Value     Percentile TotalCount 1/(1-Percentile)\n\n",
            "    0.001000 0.000000000000          1           1.00\n",
            "    0.001000 0.100000000000          1           1.11\n",
            "    0.001000 0.200000000000          1           1.25\n",
            "    0.002000 0.300000000000          2           1.43\n",
            "    0.002000 0.400000000000          2           1.67\n",
            "    0.002000 0.500000000000          2           2.00\n",
            "    0.003001 0.550000000000          3           2.22\n",
            "    0.003001 0.600000000000          3           2.50\n",
            "    0.003001 0.650000000000          3           2.86\n",
            "    0.003001 0.700000000000          3           3.33\n",
            "    0.004001 0.750000000000          4           4.00\n",
            "    0.004001 1.000000000000          4\n",
            "#[Mean    =     0.002501, StdDeviation   =     0.001118]\n",
            "#[Max     =     0.004001, Total count    =            4]\n",
            "#[Buckets =           32, SubBuckets     =         2048]\n",
        );
        assert_eq!(percentiles(&histogram), golden);
    }
}
