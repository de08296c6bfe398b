// Package fail declares how things go wrong. A package names each of its
// failures once with Define, wraps it with what was being done and to which
// id, and an edge translates it once: the kind picks the HTTP status, the code
// is what programs read, the text is what people read.
package fail

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Kind is what an edge does with a failure.
type Kind int

// The kinds, with the HTTP status an edge answers.
const (
	Broken    Kind = iota // a defect or a broken machine: 500, text hidden
	Invalid               // the request is malformed: 422
	Refused               // a rule says no: 409
	NotFound              // no such thing: 404
	Conflict              // same key, other content: 409
	Busy                  // try again later: 503 with Retry-After
	Forbidden             // not this person: 403
)

var kindNames = [...]string{"broken", "invalid", "refused", "not-found", "conflict", "busy", "forbidden"}

func (k Kind) String() string { return kindNames[k] }

// A Failure is one declared way to fail. It is an error to be wrapped with
// context; errors.Is finds it again by identity.
type Failure struct {
	Kind Kind
	Code string // package.what_happened, stable for programs
	Text string // one sentence without secrets, for people
}

func (f *Failure) Error() string { return f.Text }

// ErrUnknown stands for every error nobody declared: a defect.
var ErrUnknown = &Failure{Kind: Broken, Code: "internal.error", Text: "something broke on our side; nothing was changed"}

var (
	mu       sync.Mutex
	declared = map[string]*Failure{ErrUnknown.Code: ErrUnknown}
)

// Define declares a failure. A code declared twice is a defect and panics at
// program start.
func Define(kind Kind, code, text string) *Failure {
	mu.Lock()
	defer mu.Unlock()
	if _, taken := declared[code]; taken {
		panic(fmt.Sprintf("fail: %s declared twice", code))
	}
	f := &Failure{Kind: kind, Code: code, Text: text}
	declared[code] = f
	return f
}

// Of finds the declared failure in err's chain, or ErrUnknown.
func Of(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return ErrUnknown
}

// All lists every declared failure by code, for the reference pages and for
// the test that each has a Chinese text.
func All() []*Failure {
	mu.Lock()
	defer mu.Unlock()
	all := make([]*Failure, 0, len(declared))
	for _, f := range declared {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *Failure) int {
		if a.Code < b.Code {
			return -1
		}
		return 1
	})
	return all
}
