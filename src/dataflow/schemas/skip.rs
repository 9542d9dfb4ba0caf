//! Avro data that nobody wants: passed over, never looked into.

use super::fault::Fault;
use super::input::Input;
use super::layout::{At, Layout, Node};

/// Passes over a value.
pub fn skip(input: &mut Input<'_>, layout: &Layout, node: &Node) -> Result<(), Fault> {
    match node {
        Node::Null => {}
        Node::Boolean => _ = input.take(1)?,
        Node::Int | Node::Long | Node::Instant { .. } | Node::Enum(_) => _ = input.long()?,
        Node::Float => _ = input.take(4)?,
        Node::Double => _ = input.take(8)?,
        Node::Bytes | Node::Text | Node::BigDecimal => _ = input.bytes()?,
        Node::Fixed(size) => _ = input.take(*size)?,
        Node::Uuid(size) | Node::Decimal { size, .. } => _ = input.sized(*size)?,
        Node::Union(branches) => {
            let branch = &branches[input.choice(branches.len())?];
            skip(input, layout, layout.node(branch.at))?;
        }
        Node::Record(fields) => {
            input.enter()?;
            for field in fields {
                let skipped = skip(input, layout, layout.node(field.at));
                skipped.map_err(|fault| fault.within(&field.name))?;
            }
            input.leave();
        }
        Node::Array(item) => skip_items(input, layout, *item, false)?,
        Node::Map(value) => skip_items(input, layout, *value, true)?,
    }
    Ok(())
}

fn skip_items(
    input: &mut Input<'_>,
    layout: &Layout,
    item: At,
    have_keys: bool,
) -> Result<(), Fault> {
    input.enter()?;
    loop {
        match input.block()? {
            (0, _) => break,
            (_, Some(size)) => _ = input.take(size)?,
            (count, None) => {
                for _ in 0..count {
                    input.part()?;
                    if have_keys {
                        input.bytes()?;
                    }
                    skip(input, layout, layout.node(item))?;
                }
            }
        }
    }
    input.leave();
    Ok(())
}
