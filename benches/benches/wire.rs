//! From bytes to meaning and back: parse, rewrite, checksum.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heddle_wire::builder::{Link, TcpHeader};
use heddle_wire::{
    Address, MacAddr, Rewrite, Summary, checksum, ipv4_header_is_valid, rewrite,
    transport_checksum_is_valid,
};

const LINK: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];

/// Octets of TCP payload in a full frame.
const FULL: usize = 1_448;

/// One frame of each kind, by what it is.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let link = Link::new(LINK[0], LINK[1]);
    let tcp = TcpHeader::default();
    let v4 = link.ip("10.0.0.1", "10.0.0.2");
    let v6 = link.ip("fd00::1", "fd00::2");
    vec![
        ("tcp4", v4.tcp(&tcp, &[7; FULL])),
        ("tcp6", v6.tcp(&tcp, &[7; FULL])),
        ("udp4", v4.udp(1, 2, &[7; 18])),
        ("udp6", v6.udp(1, 2, &[7; 18])),
    ]
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for (name, frame) in frames() {
        let summary = Summary::parse(&frame).unwrap();
        let sources = [address("10.0.0.1"), address("fd00::1")];
        assert!(sources.contains(&summary.ip().unwrap().source));
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert!(black_box(Summary::parse(black_box(&frame))).is_ok()));
        });
    }
    group.finish();
}

fn translate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewrite");
    group.throughput(Throughput::Elements(1));
    for (name, mut frame) in frames() {
        let there = |text: &str, port| (address(text), port);
        let ends = if name.ends_with('4') {
            [there("192.0.2.1", 9), there("198.51.100.2", 443)]
        } else {
            [there("2001:db8::1", 9), there("2001:db8::2", 443)]
        };
        let to = Rewrite {
            source: ends[0].0,
            source_port: ends[0].1,
            destination: ends[1].0,
            destination_port: ends[1].1,
        };
        let summary = Summary::parse(&frame).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                rewrite(
                    black_box(&mut frame),
                    summary.ip().unwrap(),
                    false,
                    black_box(&to),
                );
            });
        });
        let summary = Summary::parse(&frame).unwrap();
        let ip = summary.ip().unwrap();
        assert_eq!((ip.source, ip.destination), (to.source, to.destination));
        assert!(transport_checksum_is_valid(&frame, ip), "{name}");
    }
    group.finish();
}

fn sums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    let bytes: Vec<u8> = (0..=255).cycle().take(1_500).collect();
    group.throughput(Throughput::Bytes(1_500));
    let right = checksum::sum(&bytes);
    // The definition (RFC 1071 §1): words, added with their carries.
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let total: u32 = words.sum();
    assert_eq!(u32::from(right), (total & 0xffff) + (total >> 16));
    group.bench_function("1500 octets", |bencher| {
        bencher.iter(|| assert_eq!(checksum::sum(black_box(&bytes)), right));
    });
    let (_, frame) = frames().swap_remove(0);
    group.throughput(Throughput::Elements(1));
    group.bench_function("IPv4 header", |bencher| {
        bencher.iter(|| assert!(ipv4_header_is_valid(black_box(&frame), black_box(14))));
    });
    group.finish();
}

criterion_group!(benches, parse, translate, sums);
criterion_main!(benches);
