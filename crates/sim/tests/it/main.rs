//! Tests of the world: what programs see in it, and how it is run.
#![allow(clippy::unwrap_used, reason = "a panic in a test is the report of a failure")]
#![allow(clippy::unit_arg, reason = "`Ok(io.close())` keeps the reactions short")]

mod chat;
mod common;
mod datagrams;
mod echo_server;
mod faults;
mod found;
mod machines;
mod network;
mod page;
mod replay;
mod shrinking;
