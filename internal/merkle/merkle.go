// Package merkle makes and follows Merkle trees over SHA-256 as RFC 9162, 2.1
// has them: one root stands for a list of records, and a short path shows that
// a record is in it.
package merkle

import "crypto/sha256"

// A Hash is the hash of a leaf, of a node, or the root.
type Hash = [32]byte

// Leaf is the hash of a record, RFC 9162, 2.1.1.
func Leaf(data []byte) Hash {
	return sha256.Sum256(append(append(make([]byte, 0, 1+len(data)), 0), data...))
}

func node(l, r Hash) Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], l[:])
	copy(b[33:], r[:])
	return sha256.Sum256(b[:])
}

// A Step is the neighbour to hash with on the way to the root.
type Step struct {
	Hash Hash
	Left bool // the neighbour is on the left
}

// Climb returns the root that a path leads to from a leaf.
func Climb(at Hash, path []Step) Hash {
	for _, s := range path {
		if s.Left {
			at = node(s.Hash, at)
		} else {
			at = node(at, s.Hash)
		}
	}
	return at
}

// A Tree takes leaves one by one and keeps only the roots of its full subtrees,
// so it may be as large as it likes.
type Tree struct {
	subs []subtree
	n    int
	want int  // leaf whose path is gathered
	seek bool // there is one
	path []Step
}

type subtree struct {
	hash Hash
	from int // its first leaf
	size int
}

// Add takes the next leaf.
func (t *Tree) Add(leaf Hash) {
	t.subs = append(t.subs, subtree{leaf, t.n, 1})
	t.n++
	for k := len(t.subs); k > 1 && t.subs[k-1].size == t.subs[k-2].size; k = len(t.subs) {
		t.merge()
	}
}

// merge joins the last two subtrees.
func (t *Tree) merge() {
	k := len(t.subs)
	l, r := t.subs[k-2], t.subs[k-1]
	switch {
	case !t.seek:
	case l.from <= t.want && t.want < r.from:
		t.path = append(t.path, Step{r.hash, false})
	case r.from <= t.want && t.want < r.from+r.size:
		t.path = append(t.path, Step{l.hash, true})
	}
	t.subs = append(t.subs[:k-2], subtree{node(l.hash, r.hash), l.from, l.size + r.size})
}

// Root ends the tree. Of no leaves it is the hash of nothing.
func (t *Tree) Root() Hash {
	if t.n == 0 {
		return sha256.Sum256(nil)
	}
	for len(t.subs) > 1 {
		t.merge()
	}
	return t.subs[0].hash
}

// Mark makes the tree gather the path of the leaf that is added next.
func (t *Tree) Mark() { t.want, t.seek = t.n, true }

// Path is the way from the marked leaf to the root, once Root was called.
func (t *Tree) Path() []Step { return t.path }
