//! Finds the values from which shapes are computed, and nothing else.

use super::scope::{Use, Value};
use super::{Dataflow, Kind};
use crate::lists::Lists;
use crate::op_types::OfOpTypes;
use crate::rules::shapes::{ShapeRow, ShapeUse};

impl Dataflow<'_, '_> {
    /// Returns for each tensor of the model whether its values only serve to compute shapes.
    pub fn shape_tensors(&self) -> Vec<bool> {
        let n_values = self.scopes.n_values;
        let rows = OfOpTypes::new(self.model);
        let (mut is_data, mut is_read) = (vec![false; n_values], vec![false; n_values]);
        // What a value becomes, turned round: from each value to those that it is made of.
        let mut made_of: Vec<(u32, u32)> = Vec::new();
        for value in 0..n_values as u32 {
            for &place in self.scopes.uses.of(value) {
                let mut becomes = |next: Value| {
                    if let Some(next) = next {
                        made_of.push((next, value));
                    }
                };
                let at = value as usize;
                match place {
                    Use::Input { node, slot } => {
                        match self.input(&rows, node, slot, &mut becomes) {
                            ShapeUse::Read => is_read[at] = true,
                            ShapeUse::Data => is_data[at] = true,
                            ShapeUse::Ignored | ShapeUse::Passed => {}
                        }
                    }
                    Use::Output { graph, position } => {
                        is_data[at] |= !self.leave(graph, position, &mut becomes);
                    }
                }
            }
        }
        let made_of = Lists::new(n_values, &made_of);
        spread(&made_of, &mut is_data);
        spread(&made_of, &mut is_read);
        let is_shape = |value: &Value| {
            value.is_some_and(|value| is_read[value as usize] && !is_data[value as usize])
        };
        self.scopes.tensors.iter().map(is_shape).collect()
    }

    /// Returns how a node uses its input `slot`, and names what becomes of the value.
    fn input(
        &self,
        rows: &OfOpTypes<'_, '_, ShapeRow>,
        node: u32,
        slot: u32,
        becomes: &mut impl FnMut(Value),
    ) -> ShapeUse {
        let Some(&of) = self.nodes.get(node as usize) else {
            return ShapeUse::Data;
        };
        let row = || rows.get(of.id, ShapeRow::of);
        let mut found = match of.kind {
            Kind::Call => ShapeUse::Passed,
            Kind::Unknown => ShapeUse::Data,
            Kind::Known(_) => row().map_or(ShapeUse::Data, |row| row.input(slot)),
        };
        if let Some(body) = of.body {
            match self.parameter(body, slot) {
                Some(parameter) => becomes(Some(parameter)),
                None => found = ShapeUse::Data,
            }
        }
        if found == ShapeUse::Data
            && let Some(bodies) = self.bodies(of, slot)
        {
            found = ShapeUse::Passed;
            for &graph in bodies {
                becomes(self.parameter(graph, slot));
            }
        } else if found == ShapeUse::Passed && !matches!(of.kind, Kind::Call) {
            let outputs = self.scopes.outputs.of(node).iter();
            outputs.for_each(|output| becomes(*output));
        }
        found
    }
}

/// Marks everything that marked values are made of.
fn spread(made_of: &Lists<u32>, marks: &mut [bool]) {
    let marked = (0..).zip(&*marks).filter(|(_, mark)| **mark);
    let mut pending: Vec<u32> = marked.map(|(value, _)| value).collect();
    while let Some(value) = pending.pop() {
        for &from in made_of.of(value) {
            if !std::mem::replace(&mut marks[from as usize], true) {
                pending.push(from);
            }
        }
    }
}
