package fail_test

import (
	"errors"
	"fmt"
	"testing"

	"koala/internal/fail"
)

func TestOfFindsTheDeclaredFailure(t *testing.T) {
	low := fail.Define(fail.Refused, "failtest.low", "too low")
	wrapped := fmt.Errorf("post t:1: %w", fmt.Errorf("account a: %w", low))
	if got := fail.Of(wrapped); got != low {
		t.Errorf("Of(%v) = %v, want %v", wrapped, got, low)
	}
	if !errors.Is(wrapped, low) {
		t.Errorf("errors.Is does not see %v in %v", low, wrapped)
	}
	if got := fail.Of(errors.New("disk on fire")); got != fail.ErrUnknown {
		t.Errorf("an undeclared error is %v, want ErrUnknown", got)
	}
}

func TestDefineTwicePanics(t *testing.T) {
	fail.Define(fail.Invalid, "failtest.twice", "once")
	defer func() {
		if recover() == nil {
			t.Error("declaring a code twice must panic")
		}
	}()
	fail.Define(fail.Invalid, "failtest.twice", "again")
}
