//! The LTX codec: encoding, decoding, and the merge behind compaction and restore.

use bench::content::{Kind, page};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replicator::host::UnixMillis;
use replicator::ltx::{Decoder, Encoder, Event, Header, Merge, MergeEvent, PageNumber, PageSize, Txid};

const PAGES: u32 = 2048;
const PAGE_SIZE: usize = 4096;
const INPUTS: u32 = 16;
/// As bodies arrive from a store.
const CHUNK: usize = 256 << 10;

fn header(txid: u64) -> Header {
    Header {
        flags: Header::NO_CHECKSUM,
        page_size: PageSize::new(4096).expect("a page size"),
        commit: PAGES,
        min_txid: Txid(txid),
        max_txid: Txid(txid),
        timestamp: UnixMillis(1_800_000_000_000),
        pre_apply_checksum: 0,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        node_id: 0,
    }
}

fn encode(txid: u64, pages: impl Iterator<Item = (u32, Vec<u8>)>) -> Vec<u8> {
    let pages: Vec<_> = pages.collect();
    encode_slices(txid, pages.iter().map(|(number, data)| (*number, data.as_slice())))
}

fn encode_slices<'a>(txid: u64, pages: impl Iterator<Item = (u32, &'a [u8])>) -> Vec<u8> {
    let mut encoder = Encoder::new(header(txid)).expect("the header is valid");
    let mut out = encoder.header_bytes().to_vec();
    for (number, data) in pages {
        encoder.page(PageNumber(number), data, &mut out).expect("pages ascend");
    }
    encoder.finish(&mut out).expect("no page is missing");
    out
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("ltx");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(u64::from(PAGES) * PAGE_SIZE as u64));
    for (name, kind) in Kind::ALL {
        let pages: Vec<_> =
            (1..=PAGES).map(|number| (number, page(kind, PAGE_SIZE, number.into()))).collect();
        let slices = || pages.iter().map(|(number, data)| (*number, data.as_slice()));
        group.bench_function(BenchmarkId::new("encode", name), |b| b.iter(|| encode_slices(1, slices())));
        let file = encode_slices(1, slices());
        group.bench_function(BenchmarkId::new("decode", name), |b| b.iter(|| decode(&file)));
        // A base and fifteen updates of every fourth page, as level 1 sees them.
        let inputs: Vec<_> = (0..INPUTS)
            .map(|index| {
                let numbers = (1..=PAGES).filter(move |number| index == 0 || (number + index) % 4 == 0);
                let seed = move |number: u32| u64::from(number) << 8 | u64::from(index);
                let pages = numbers.map(move |number| (number, page(kind, PAGE_SIZE, seed(number))));
                encode(u64::from(index) + 1, pages)
            })
            .collect();
        group.bench_function(BenchmarkId::new("merge", name), |b| b.iter(|| merge(&inputs)));
    }
    group.finish();
}

fn decode(file: &[u8]) -> u64 {
    let mut decoder = Decoder::new();
    let mut pages = 0;
    for chunk in file.chunks(CHUNK) {
        decoder.push(chunk);
        while let Some(event) = decoder.next().expect("the file is valid") {
            pages += u64::from(matches!(event, Event::Page { .. }));
        }
    }
    decoder.finish().expect("the file is complete");
    pages
}

fn merge(files: &[Vec<u8>]) -> u64 {
    let mut merge = Merge::new(files.len());
    let mut chunks: Vec<_> = files.iter().map(|file| file.chunks(CHUNK)).collect();
    let mut pages = 0;
    loop {
        match merge.next().expect("the files belong together") {
            MergeEvent::NeedInput(input) => match chunks[input].next() {
                Some(chunk) => merge.push(input, chunk),
                None => merge.end(input),
            },
            MergeEvent::Header(_) => {}
            MergeEvent::Page { .. } => pages += 1,
            MergeEvent::End => return pages,
        }
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
