//! Rules and the plan, without a server; what they do to real connections is in `effects`.

mod effects;
mod rules;
