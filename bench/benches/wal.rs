//! Scanning a write-ahead log: salts and checksums of every frame, newest version of every page.

use bench::content::{Kind, page, wal_file};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use replicator::wal::{FRAME_HEADER_SIZE, HEADER_SIZE, Header, Scanner};

const PAGES: u64 = 4096;

fn scan(c: &mut Criterion) {
    let pages: Vec<_> = (0..PAGES).map(|seed| page(Kind::Rows, 4096, seed)).collect();
    let file = wal_file(&pages, 20);
    let header = Header::parse(&file).expect("the header is valid");
    let mut group = c.benchmark_group("wal");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("scan", |b| {
        b.iter(|| {
            let mut scanner = Scanner::new(header, 0, [0, 0]);
            for frame in file[HEADER_SIZE..].chunks_exact(FRAME_HEADER_SIZE + 4096) {
                scanner.push(frame).expect("the frames are valid");
            }
            scanner.finish().expect("there are commits")
        });
    });
    group.finish();
}

criterion_group!(benches, scan);
criterion_main!(benches);
