//! Clients and servers that share no code with ours: MinIO's SDK, and servers in containers.

#[path = "witnesses/clients.rs"]
mod clients;
#[path = "witnesses/containers.rs"]
mod containers;
