package terms

import (
	"testing"

	"koala/web"
)

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}
