package till

import (
	"context"

	"github.com/a-h/templ"

	"koala/settlement/fee"
	"koala/switching"
	"koala/web"
)

// Dialogue shows what was said about a transaction, in bytes and words, secrets
// masked.
func (d Deps) Dialogue(ctx context.Context, said []switching.Message) (templ.Component, error) {
	list, err := d.exchanges(ctx, said)
	return exchanges(list), err
}

// Facts are a transaction's own, for pages of others than its shop: without
// links.
func Facts(ctx context.Context, t switching.Txn) []web.Fact {
	out := saleFacts(ctx, t)
	for i := range out {
		out[i].Href = ""
	}
	return out
}

// State is a cell of a transaction's state.
func State(ctx context.Context, s switching.State) web.Cell { return stateCell(ctx, s) }

// Kind says what kind of transaction a name is.
func Kind(name string) web.Text { return kindText(name) }

// Class says a kind of card.
func Class(class string) web.Text {
	if w, ok := classWords[fee.Class(class)]; ok {
		return w
	}
	return web.Same(class)
}
