//! Which blocks lead where: orders, predecessors, dominators.

use super::{Block, Function};

/// The blocks of a function that can be reached, in reverse postorder, with their predecessors.
#[derive(Clone, Debug)]
pub struct Cfg {
    /// Reachable blocks; each comes before what it leads to, but for the edges back of loops. The entry is first.
    pub order: Vec<Block>,
    /// Predecessors of every block; one that branches to it twice comes twice. Only reachable ones.
    pub preds: Vec<Vec<Block>>,
    /// Position in [`Cfg::order`]; `None` for blocks that nothing leads to.
    position: Vec<Option<u32>>,
}

impl Cfg {
    /// Looks at a function whose targets exist.
    pub fn new(function: &Function) -> Cfg {
        let n = function.blocks.len();
        let mut cfg = Cfg { order: Vec::new(), preds: vec![Vec::new(); n], position: vec![None; n] };
        if n == 0 {
            return cfg;
        }
        // The last successor is walked first, so that the first one comes right behind its block in the order: in a loop the
        // exit is most often the second.
        let successors = |block: Block| -> Vec<Block> { function.blocks[block.0 as usize].end.successors().collect() };
        let mut seen = vec![false; n];
        let mut stack = vec![(Block(0), successors(Block(0)))];
        seen[0] = true;
        while let Some((block, rest)) = stack.last_mut() {
            match rest.pop() {
                Some(next) => {
                    cfg.preds[next.0 as usize].push(*block);
                    if !std::mem::replace(&mut seen[next.0 as usize], true) {
                        stack.push((next, successors(next)));
                    }
                }
                None => {
                    cfg.order.push(*block);
                    stack.pop();
                }
            }
        }
        cfg.order.reverse();
        for (at, block) in cfg.order.iter().enumerate() {
            cfg.position[block.0 as usize] = Some(at as u32);
        }
        cfg
    }

    /// Position in [`Cfg::order`]; `None` when nothing leads there.
    pub fn position(&self, block: Block) -> Option<u32> {
        self.position[block.0 as usize]
    }

    /// Whether something leads there.
    pub fn is_reachable(&self, block: Block) -> bool {
        self.position(block).is_some()
    }
}

/// Which block every path to another one passes.
///
/// By the iteration of Cooper, Harvey and Kennedy ("A Simple, Fast Dominance Algorithm", 2001) over positions in reverse
/// postorder.
#[derive(Clone, Debug)]
pub struct Dominators {
    /// By block: the nearest block that dominates it, itself left out; `None` for the entry and for unreachable blocks.
    parent: Vec<Option<Block>>,
    /// By block: entry and exit times in a walk over the tree.
    times: Vec<(u32, u32)>,
    children: Vec<Vec<Block>>,
}

impl Dominators {
    /// Of a function with this graph.
    pub fn new(cfg: &Cfg) -> Dominators {
        let n = cfg.order.len();
        let mut idom: Vec<Option<usize>> = vec![None; n];
        if n > 0 {
            idom[0] = Some(0);
        }
        let mut changed = true;
        while changed {
            changed = false;
            for (at, block) in cfg.order.iter().enumerate().skip(1) {
                let preds = cfg.preds[block.0 as usize].iter().filter_map(|pred| cfg.position(*pred));
                let mut new: Option<usize> = None;
                for pred in preds.map(|it| it as usize).filter(|it| idom[*it].is_some()) {
                    new = Some(new.map_or(pred, |other| meet(&idom, pred, other)));
                }
                if new.is_some() && new != idom[at] {
                    idom[at] = new;
                    changed = true;
                }
            }
        }
        let mut tree = Dominators {
            parent: vec![None; cfg.preds.len()],
            times: vec![(0, 0); cfg.preds.len()],
            children: vec![Vec::new(); cfg.preds.len()],
        };
        for (block, above) in cfg.order.iter().zip(&idom).skip(1) {
            let Some(above) = above.map(|it| cfg.order[it]) else { continue };
            tree.parent[block.0 as usize] = Some(above);
            tree.children[above.0 as usize].push(*block);
        }
        tree.number(cfg.order.first().copied());
        tree
    }

    fn number(&mut self, root: Option<Block>) {
        let mut clock = 0;
        let mut stack: Vec<(Block, usize)> = root.into_iter().map(|it| (it, 0)).collect();
        while let Some((block, next)) = stack.last_mut() {
            if *next == 0 {
                clock += 1;
                self.times[block.0 as usize].0 = clock;
            }
            match self.children[block.0 as usize].get(*next) {
                Some(child) => {
                    *next += 1;
                    stack.push((*child, 0));
                }
                None => {
                    clock += 1;
                    self.times[block.0 as usize].1 = clock;
                    stack.pop();
                }
            }
        }
    }

    /// The nearest block that dominates this one, itself left out.
    pub fn parent(&self, block: Block) -> Option<Block> {
        self.parent[block.0 as usize]
    }

    /// The blocks whose nearest dominator this one is, in reverse postorder.
    pub fn children(&self, block: Block) -> &[Block] {
        &self.children[block.0 as usize]
    }

    /// Whether every path to `below` passes `above`; a block dominates itself. Both are reachable.
    pub fn dominates(&self, above: Block, below: Block) -> bool {
        let (above, below) = (self.times[above.0 as usize], self.times[below.0 as usize]);
        above.0 <= below.0 && below.1 <= above.1
    }
}

fn meet(idom: &[Option<usize>], mut a: usize, mut b: usize) -> usize {
    while a != b {
        // Positions with an entry lead to smaller ones until the root, which is 0.
        match a > b {
            true => a = idom[a].unwrap_or(0),
            false => b = idom[b].unwrap_or(0),
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::FuncKind;
    use crate::ir::build::FunctionBuilder;

    #[test]
    fn a_diamond_with_a_loop_behind_it() {
        let mut f = FunctionBuilder::new("f", FuncKind::Program, 1);
        let [left, right, head, out, dead] = [(); 5].map(|()| f.block(0));
        f.branch_if(f.argument(0), left, right);
        f.switch_to(left);
        f.jump(head, &[]);
        f.switch_to(right);
        f.jump(head, &[]);
        f.switch_to(head);
        f.branch_if(f.argument(0), head, out);
        let f = f.finish();
        let cfg = Cfg::new(&f);
        assert_eq!(cfg.order, [Block(0), left, right, head, out]);
        assert!(!cfg.is_reachable(dead) && cfg.preds[head.0 as usize].len() == 3);
        let tree = Dominators::new(&cfg);
        assert_eq!((tree.parent(head), tree.parent(out), tree.parent(Block(0))), (Some(Block(0)), Some(head), None));
        assert!(tree.dominates(Block(0), out) && tree.dominates(head, head) && !tree.dominates(left, head));
        assert_eq!(tree.children(Block(0)).len(), 3);
    }
}
