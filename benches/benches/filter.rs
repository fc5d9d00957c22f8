//! Chains of ten rules and of a thousand: what asking about a packet takes. Each answer is compared with
//! what it must be.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heddle_benches::rules::{Filter, Mix, PACKETS};
use heddle_wire::Family;

fn judge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter/judge");
    group.throughput(Throughput::Elements(PACKETS.try_into().unwrap_or(u64::MAX)));
    for (name, mix) in Mix::ALL {
        for family in [Family::V4, Family::V6] {
            for rules in [10, 1000] {
                let filter = Filter::new(mix, family, rules);
                let id = BenchmarkId::new(format!("{name}/{family:?}"), rules);
                group.bench_function(id, |bencher| bencher.iter(|| filter.run()));
            }
        }
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
