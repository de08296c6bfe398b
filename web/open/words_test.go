package open

import (
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"koala/issuing"
	"koala/tsm"
	"koala/web"
)

// Schemas is the contract's types, for the tests of real answers.
func Schemas() huma.Registry { return newAPI(Deps{}).huma.OpenAPI().Components.Schemas }

// Bodies are the bodies that the page for developers shows, by operation.
func Bodies() map[string]string {
	out := map[string]string{}
	for id, w := range opWords {
		if w.body != "" {
			out[id] = w.body
		}
	}
	return out
}

func TestEveryStateHasAWordInTheContract(t *testing.T) {
	for _, s := range []issuing.TemplateState{issuing.Submitted, issuing.Approved, issuing.Refused, issuing.Withdrawn} {
		if templateStates[s] == "" {
			t.Errorf("template %s", s)
		}
	}
	for _, s := range []tsm.State{tsm.Placed, tsm.Running, tsm.Unconfirmed, tsm.Done, tsm.Failed, tsm.Cancelled} {
		if orderStates[s] == "" {
			t.Errorf("order %s", s)
		}
	}
	for _, s := range []issuing.State{issuing.Ordered, issuing.Personalising, issuing.Active, issuing.Blocked, issuing.Closing, issuing.Closed, issuing.Abandoned, issuing.Replaced} {
		if cardStates[s] == "" {
			t.Errorf("card %s", s)
		}
	}
}

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
	for _, o := range newAPI(Deps{}).described() {
		if o.name.ZH == "" || o.lead.EN == "" || o.status == "" {
			t.Errorf("operation %q lacks words", o.id)
		}
		for _, f := range append(append(o.inputs, o.sent...), o.answers...) {
			if f.means.ZH == "" || f.means.EN == "" {
				t.Errorf("%s: field %s lacks words: %+v", o.id, f.name, f.means)
			}
		}
	}
	if len(order) != len(opWords) {
		t.Error("an operation is not on the page")
	}
}
