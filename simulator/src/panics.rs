//! Panics anywhere in this process are kept as evidence: a task that dies silently is a defect, too.

use std::panic;
use std::sync::{Arc, Mutex, Once};

static FOUND: Mutex<Option<Arc<Mutex<Vec<String>>>>> = Mutex::new(None);

/// Where panics are written from now on; replaces the place before.
#[must_use]
pub fn collect() -> Arc<Mutex<Vec<String>>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Ok(found) = FOUND.lock()
                && let Some(found) = &*found
                && let Ok(mut found) = found.lock()
            {
                found.push(info.to_string());
            }
            previous(info);
        }));
    });
    let place = Arc::new(Mutex::new(Vec::new()));
    *FOUND.lock().expect("held for moments") = Some(Arc::clone(&place));
    place
}
