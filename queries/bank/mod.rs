//! A bank: money moves between accounts, and none appears or gets lost. Read together, at one
//! epoch, the queries always agree.

mod balances;
mod credits;
mod debits;
mod total;
mod transfer;

/// Every query of the bank.
pub fn all() -> Vec<waterclock::Query> {
    waterclock::queries![credits, debits, balances, total]
}
