package open

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"koala/internal/fail"
	"koala/internal/once"
	"koala/issuing"
	"koala/tsm"
	"koala/web"
)

// order is the order of the operations on the page.
var order = []string{"create-card-template", "submit-card-template", "list-card-templates", "get-card-template", "issue-card", "get-order", "get-card"}

// codes are the failures that a partner may meet.
var codes = []*fail.Failure{ErrKey, ErrScope, ErrRate, ErrBody, ErrNoThing, ErrNotOnSale, ErrReference, ErrConsent, ErrConsentOver, ErrConsentFirm, once.ErrKey, once.ErrDiffers,
	issuing.ErrTemplate, issuing.ErrHasCard, tsm.ErrBand, web.ErrNoPage, web.ErrMethod, fail.ErrUnknown}

// An operation is one as the page shows it.
type operation struct {
	id, method, path string
	name, lead       web.Text
	right            string
	inputs, sent     []field
	answers          []field
	status           string
	curl             string
}

// A field is one line of a table of fields.
type field struct {
	name, kind string
	needed     bool
	means      web.Text
	words      []string // the only values, if there are only these
	deep       bool     // of an object inside
}

func (a *api) developers() http.Handler {
	m := a.Kit.Mux(web.Public)
	ops := a.described()
	m.Handle("GET /developers", func(w http.ResponseWriter, r *http.Request) error {
		return a.Kit.Page(w, r, web.Page{Title: words.Title, Lead: words.Lead}, developersPage(a, ops))
	})
	return m
}

// described reads the page's content out of the description, so that the two
// cannot differ.
func (a *api) described() []operation {
	byID := map[string]operation{}
	for path, item := range a.huma.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post} {
			if op != nil {
				byID[op.OperationID] = a.describe(method, path, op)
			}
		}
	}
	var out []operation
	for _, id := range order {
		out = append(out, byID[id])
	}
	return out
}

func (a *api) describe(method, path string, op *huma.Operation) operation {
	w := opWords[op.OperationID]
	o := operation{id: op.OperationID, method: method, path: path, name: w.name, lead: w.lead, right: op.Security[0]["key"][0]}
	for _, p := range op.Parameters {
		name := p.Name
		if p.In == "path" && p.Name == "band" {
			name = "band (path)"
		}
		o.inputs = append(o.inputs, field{p.Name, typeName(p.Schema), p.Required, web.Text{ZH: fieldZH[name], EN: p.Description}, nil, false})
	}
	if op.RequestBody != nil {
		o.sent = a.fields(op.RequestBody.Content["application/json"].Schema, false)
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		if strings.HasPrefix(status, "2") {
			o.status, o.answers = status, a.fields(op.Responses[status].Content["application/json"].Schema, false)
		}
	}
	o.curl = curl(o, w.body)
	return o
}

// fields lists what an object has, needed ones first, with one level of the
// objects inside.
func (a *api) fields(s *huma.Schema, deep bool) (out []field) {
	name := s.Ref[strings.LastIndex(s.Ref, "/")+1:]
	if s.Ref != "" {
		s = a.huma.OpenAPI().Components.Schemas.SchemaFromRef(s.Ref)
	}
	keys := slices.SortedFunc(maps.Keys(s.Properties), func(x, y string) int {
		return cmp.Or(cmp.Compare(rank(s, x), rank(s, y)), cmp.Compare(x, y))
	})
	for _, k := range keys {
		p := s.Properties[k]
		zh, own := fieldZH[name+"."+k]
		if !own {
			zh = fieldZH[k]
		}
		out = append(out, field{k, typeName(p), slices.Contains(s.Required, k), web.Text{ZH: zh, EN: p.Description}, valuesOf(p), deep})
		if p.Ref != "" && !deep {
			out = append(out, a.fields(p, true)...)
		}
	}
	return out
}

func rank(s *huma.Schema, name string) int {
	if slices.Contains(s.Required, name) {
		return 0
	}
	return 1
}

func valuesOf(s *huma.Schema) (out []string) {
	for _, e := range s.Enum {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// typeName says what a value is.
func typeName(s *huma.Schema) string {
	switch {
	case s.Ref != "":
		return "object"
	case s.Type == "array":
		return "array"
	case s.Format == "date-time":
		return "date-time"
	}
	return s.Type
}

// curl is an operation as a command.
func curl(o operation, body string) string {
	path := strings.NewReplacer("{band}", "band_7", "/card-templates/{id}", "/card-templates/ct_01j8", "/orders/{id}", "/orders/ord_01j8", "/cards/{id}", "/cards/card_01j8").Replace(o.path)
	s := "curl -H 'Authorization: Bearer koala_…'"
	if o.method == http.MethodPost {
		s += " \\\n     -H 'Idempotency-Key: 6f1c0a'"
		if body == "" {
			s += " -X POST"
		}
	}
	if body != "" {
		s += " -H 'Content-Type: application/json' \\\n     -d '" + body + "'"
	}
	return s + " \\\n     https://koala.example" + path
}

// methodTone tells what reads from what changes.
func methodTone(method string) web.Tone {
	if method == http.MethodGet {
		return web.Info
	}
	return web.Good
}
