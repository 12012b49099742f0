//! What is merged when, from where, and at what cost.

use super::*;

#[tokio::test(start_paused = true)]
async fn levels_fill_on_schedule_and_every_state_stays_right() {
    let mut rig = Rig::new();
    rig.commit(40);
    rig.snapshot();
    for minute in 1..=70_u32 {
        for _ in 0..6 {
            rig.commit(40 + minute % 7 * 10);
            rig.pass(10 * SECOND).await;
            if rig.compactor.next_due(rig.now()).is_some_and(|due| due <= rig.now()) {
                rig.run().await.unwrap();
            }
        }
    }
    assert_eq!(rig.judge(), (1..=421).collect::<Vec<_>>());
    let [l1, l2, l3] = [1, 2, 3].map(|level| rig.bucket.level(level));
    // One run at the start, then one per boundary.
    assert_eq!((l1.len(), l2.len(), l3.len()), (140, 15, 2));
    for level in [l1, l2, l3] {
        assert_eq!(level[0].0, 2, "the base is not copied");
        assert!(level.windows(2).all(|pair| pair[1].0 == pair[0].1 + 1), "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_new_costs_no_request() {
    let mut rig = Rig::new();
    assert_eq!(rig.compactor.next_due(rig.now()), Some(rig.now()), "must list first");
    rig.commit(10);
    rig.snapshot();
    rig.commit(10);
    rig.run().await.unwrap();
    assert_eq!(rig.bucket.take_log("LIST").len(), 1);
    rig.pass(48 * 3600 * SECOND).await;
    rig.run().await.unwrap();
    rig.bucket.take_log("");
    assert_eq!(rig.compactor.next_due(rig.now()), None);
    rig.run().await.unwrap();
    assert_eq!(rig.bucket.take_log(""), Vec::<String>::new());
    rig.commit(10);
    let due = rig.compactor.next_due(rig.now()).unwrap();
    assert!(due > rig.now() && due.0 <= rig.now().0 + 30_000);
    assert_eq!(rig.bucket.take_log(""), Vec::<String>::new());
}

/// It was copied five times for every file that was uploaded.
#[tokio::test(start_paused = true)]
async fn what_the_bucket_holds_is_shared_and_not_copied() {
    let mut rig = Rig::new();
    rig.commit(10);
    rig.compactor.look().await.unwrap();
    let before = rig.compactor.inventory().unwrap();
    assert!(Arc::ptr_eq(&before, &rig.compactor.inventory().unwrap()));
    rig.commit(10);
    let counts = [before, rig.compactor.inventory().unwrap()].map(|inventory| inventory.iter().count());
    assert_eq!(counts, [1, 2], "and who has it is not disturbed");
}

#[tokio::test(start_paused = true)]
async fn an_adopted_listing_saves_the_first_one() {
    let mut rig = Rig::new();
    rig.commit(10);
    rig.commit(10);
    rig.compactor.begin_listing().adopt(Inventory::load(&rig.bucket).await.unwrap());
    rig.bucket.take_log("");
    assert_eq!(rig.run().await.unwrap().merged.len(), 3);
    assert_eq!(rig.bucket.take_log("LIST"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_costs_at_most_an_early_run() {
    let mut rig = Rig::new();
    rig.commit(10);
    rig.commit(10);
    rig.run().await.unwrap();
    for jump in [-10 * 24 * 3_600_000, 20 * 24 * 3_600_000, -1] {
        rig.commit(10);
        rig.clock.0.fetch_add(jump, Ordering::Relaxed);
        rig.pass(31 * SECOND).await;
        rig.run().await.unwrap();
        let last = rig.last();
        assert_eq!(rig.bucket.level(1).last(), Some(&(last, last)));
    }
    rig.judge();
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_same_interval_waits_for_the_boundary() {
    let mut rig = Rig::new();
    rig.commit(10);
    rig.commit(10);
    rig.run().await.unwrap();
    rig.pass(SECOND).await;
    rig.commit(10);
    rig.restart();
    assert_eq!(rig.run().await.unwrap().merged, []);
    rig.pass(30 * SECOND).await;
    assert_eq!(rig.run().await.unwrap().merged.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_and_large_files_are_read_in_bounded_ranges() {
    let mut rig = Rig::new();
    rig.page_size = 65536;
    rig.commit(1);
    for _ in 0..300 {
        rig.commit(4);
    }
    rig.run().await.unwrap();
    assert_eq!(rig.bucket.level(1), [(2, 129), (130, 257), (258, 301)]);
    rig.judge();
    // Incompressible pages, so that a file takes several chunks.
    let mut state = 1_u64;
    rig.pages.resize(12, vec![0; 65536]);
    for page in &mut rig.pages {
        for byte in page.iter_mut() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
    }
    rig.states.insert(302, rig.pages.concat());
    rig.publish(LtxName::l0(Txid(302)), &(0..12).collect::<Vec<_>>());
    for _ in 0..127 {
        rig.commit(4);
    }
    rig.pass(30 * SECOND).await;
    rig.bucket.take_log("");
    rig.run().await.unwrap();
    let reads = rig.bucket.take_log("GET 0000/000000000000012e");
    assert_eq!(reads.len(), 13, "12 pages of 64 KiB in chunks of 64 KiB: {reads:?}");
    assert_eq!(rig.bucket.level(1).last(), Some(&(302, 429)));
    rig.judge();
}

#[tokio::test(start_paused = true)]
async fn local_copies_are_preferred_and_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::with_local(Some(dir.path().to_owned()));
    for _ in 0..5 {
        rig.commit(20);
    }
    rig.run().await.unwrap();
    assert_eq!(rig.bucket.take_log("GET 0000"), Vec::<String>::new());
    assert_eq!(rig.bucket.level(1), [(2, 5)]);

    assert_eq!(rig.compactor.needs_copies_from(), None, "all are taken up");

    // Missing, of another size, damaged, another valid file of the same size and transaction: the objects are used.
    let path = |txid| dir.path().join(LtxName::l0(Txid(txid)).file_name());
    for spoil in ["missing", "short", "damaged", "another"] {
        let txid = rig.commit(20);
        rig.commit(20);
        let mut file = rig.bucket.get_bytes(LtxName::l0(Txid(txid)));
        match spoil {
            "missing" => rig.host.disk.remove_file(&path(txid)).unwrap(),
            "short" => write_file(&path(txid), &file[..file.len() - 1]),
            "another" => {
                let pages = rig.pages.clone();
                rig.pages.iter_mut().for_each(|page| page.iter_mut().for_each(|byte| *byte ^= 0xff));
                let other = rig.encode(LtxName::l0(Txid(txid)), &Rig::changed(txid, 20, 20));
                rig.pages = pages;
                assert_eq!(other.len(), file.len());
                write_file(&path(txid), &other);
            }
            _ => {
                *file.last_mut().unwrap() ^= 1;
                write_file(&path(txid), &file);
            }
        }
        rig.pass(30 * SECOND).await;
        rig.bucket.take_log("");
        assert_eq!(rig.run().await.unwrap().merged[0].inputs, 2, "{spoil}");
        assert!(!rig.bucket.take_log("GET 0000").is_empty(), "{spoil}");
    }
    rig.judge();
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_is_not_repeated_from_the_store() {
    for fault in ["WRITE 0001", "FINISH 0001"] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::with_local(Some(dir.path().to_owned()));
        for _ in 0..5 {
            rig.commit(20);
        }
        rig.bucket.fail(fault, 1);
        assert_eq!(rig.run().await.unwrap_err().kind(), ErrorKind::Transient, "{fault}");
        rig.pass(30 * SECOND).await;
        rig.run().await.unwrap();
        assert_eq!(rig.bucket.take_log("GET 0000"), Vec::<String>::new(), "{fault}");
        assert_eq!(rig.bucket.level(1), [(2, 5)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_where_the_page_size_changes() {
    let mut rig = Rig::new();
    rig.commit(10);
    rig.commit(12);
    rig.commit(12);
    // The database is rebuilt with larger pages: a new base.
    rig.page_size = 1024;
    rig.pages.clear();
    rig.commit(6);
    rig.snapshot();
    rig.commit(8);
    rig.compactor.begin_listing().adopt(Inventory::default());
    rig.restart();
    // As if the snapshot had come later, so that level 1 begins below the change.
    let mut inventory = Inventory::load(&rig.bucket).await.unwrap();
    let snapshot = LtxName::snapshot(Txid(4));
    let entry = *inventory.get(&snapshot).unwrap();
    inventory.remove(&snapshot);
    rig.compactor.begin_listing().adopt(inventory);
    rig.run().await.unwrap();
    assert_eq!(rig.bucket.level(1), [(2, 3), (4, 5)]);
    rig.compactor.note_published(entry.name, entry.size, rig.now());
    rig.pass(300 * SECOND).await;
    rig.run().await.unwrap();
    assert_eq!(rig.bucket.level(2), [(2, 3), (4, 5)]);
    let replica = Replica::read(&rig.bucket).unwrap();
    assert!(replica.restore(5).unwrap().bytes == rig.states[&5]);
}

#[tokio::test(start_paused = true)]
async fn works_on_a_directory_with_its_own_key_layout() {
    use crate::bucket::directory::DirectoryBucket;
    use crate::bucket::settings::DirectorySettings;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    for _ in 0..9 {
        rig.commit(30);
    }
    let settings = DirectorySettings { path: dir.path().to_owned(), ownership: None };
    let bucket = Arc::new(DirectoryBucket::new(&rig.host, &settings));
    for name in rig.bucket.names() {
        let options = PutOptions { timestamp: Some(rig.now()) };
        let body = rig.bucket.get_bytes(name).into();
        bucket.put(&name.key(bucket.layout()), body, PutCondition::IfAbsent, options).await.unwrap();
    }
    let compactor = Compactor::new(rig.host.clone(), bucket.clone(), rig.settings.clone());
    assert_eq!(compactor.run_due(rig.now()).await.unwrap().merged.len(), 3);
    rig.pass(3600 * SECOND).await;
    compactor.note_published(LtxName::l0(Txid(9)), 1000, rig.now());
    compactor.enforce_retention(rig.now()).await.unwrap();
    let left = Inventory::load(&*bucket).await.unwrap();
    assert_eq!(left.level(Level::L0).count(), 2, "the base, for want of a snapshot, and the newest");
    let directory = conformance::replica::Directory::new(dir.path());
    let replica = Replica::read(&directory).unwrap();
    assert!(replica.restore(9).unwrap().bytes == rig.states[&9]);
}
