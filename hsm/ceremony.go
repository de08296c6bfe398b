package hsm

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// The parts a key comes in.
const (
	minParts = 2
	maxParts = 3
)

// A Ceremony brings in a root under split custody: each custodian enters one
// part with its check value, nobody sees the whole, and the key is the exclusive
// or of the parts. The parts stay in memory until Finish or Abandon.
type Ceremony struct {
	h          *HSM
	label      string
	usage      Usage
	parts      int
	mu         sync.Mutex
	custodians []string
	sum        []byte
}

// Begin starts a ceremony for the next version of label in two or three parts.
func (h *HSM) Begin(label string, usage Usage, parts int) (*Ceremony, error) {
	if parts < minParts || parts > maxParts {
		return nil, fmt.Errorf("%s in %d parts: %w", label, parts, ErrParts)
	}
	if usage != PurseRoot && usage != ChannelRoot {
		return nil, fmt.Errorf("%s as %s: %w", label, usage, ErrUsage)
	}
	return &Ceremony{h: h, label: label, usage: usage, parts: parts, sum: make([]byte, usage.length())}, nil
}

// Enter takes a custodian's part and compares the check value on their sheet.
// After a wrong one the same custodian enters it again. part is cleared.
func (c *Ceremony) Enter(custodian string, part []byte, kcv [3]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer clear(part)
	switch {
	case c.sum == nil || len(c.custodians) == c.parts:
		return fmt.Errorf("key %s: %w", c.label, ErrParts)
	case custodian == "":
		return fmt.Errorf("key %s: %w", c.label, ErrCustodian)
	case len(part) != len(c.sum):
		return fmt.Errorf("part of %d bytes: %w", len(part), ErrWeak)
	case c.usage.check(part) != kcv:
		return fmt.Errorf("part %d of key %s: %w", len(c.custodians)+1, c.label, ErrCheck)
	}
	for _, before := range c.custodians {
		if before == custodian {
			return fmt.Errorf("part %d of key %s: %w", len(c.custodians)+1, c.label, ErrCustodian)
		}
	}
	for i, b := range part {
		c.sum[i] ^= b
	}
	c.custodians = append(c.custodians, custodian)
	return nil
}

// Finish compares the whole key's check value and keeps the key. Whether it
// succeeds or not, the parts are gone.
func (c *Ceremony) Finish(ctx context.Context, kcv [3]byte) (KeyInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	whole := bytes.Clone(c.sum)
	entered := len(c.custodians)
	c.abandon()
	defer clear(whole)
	if whole == nil || entered != c.parts {
		return KeyInfo{}, fmt.Errorf("key %s after %d of %d parts: %w", c.label, entered, c.parts, ErrParts)
	}
	if c.usage.check(whole) != kcv {
		return KeyInfo{}, fmt.Errorf("key %s: %w", c.label, ErrCheck)
	}
	return c.h.Import(ctx, c.label, c.usage, whole)
}

// Abandon forgets the parts.
func (c *Ceremony) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandon()
}

func (c *Ceremony) abandon() {
	clear(c.sum)
	c.sum, c.custodians = nil, nil
}
