//! Listings that lag behind what was written.

use super::mischief::Mischief;
use super::*;

/// Found by simulation (seed 208, a store whose listings lag): each full copy was taken for lost, and made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_copy_that_a_lagging_listing_lacks_is_not_made_again() {
    let mut world = World::new();
    let store = Arc::clone(&world.bucket);
    world.bucket = Arc::new(Mischief { hides_newest: true, ..Mischief::none(&store) });
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    for _ in 0..3 {
        insert(&app, 3);
        settle(&handle).await;
    }
    stop(handle).await;
    store::forget_local_state(&world);
    insert(&app, 3);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 3);
    settle(&handle).await;
    stop(handle).await;
    let snapshots = store.list("0009", None).await.unwrap().len();
    assert!(snapshots <= 2, "{snapshots} full copies");
    world.bucket = store;
    world.assert_equal(&app).await;
}
