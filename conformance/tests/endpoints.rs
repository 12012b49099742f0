//! The suite against servers of this process: the embedded one in every dialect, and one that lies.

#[path = "endpoints/cleaning.rs"]
mod cleaning;
#[path = "endpoints/dialects.rs"]
mod dialects;
#[path = "endpoints/lies.rs"]
mod lies;
#[path = "endpoints/patience.rs"]
mod patience;
#[path = "endpoints/server.rs"]
mod server;
