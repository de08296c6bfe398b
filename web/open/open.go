// Package open is the door for partners' programs: under /v1/ firms describe
// card templates, submit them to the house's staff, and issue the approved
// cards to bands over the air.
//
// Start at New. The contract is in wire.go: its types are this package's own,
// and a test holds the description at /v1/openapi.json to what stands in
// testdata. Every request brings a key (guard.go); every POST an
// Idempotency-Key, under which it takes effect once. Failures are problem
// documents (problem.go). /developers is the same description for people.
package open

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"koala/internal/db"
	"koala/internal/once"
	"koala/tsm"
	"koala/web"
)

// Deps is what the API is made of.
type Deps struct {
	Kit   *web.Kit
	Store *db.Store // with Schema and once.Schema
	TSM   *tsm.Manager
	Now   func() time.Time // wall time, for the limit of requests and the life of codes
	Ref   func() string    // a new name of at most 40 letters and digits
	Log   *slog.Logger     // nil: slog.Default
	// Connect lets a band's agent fetch its script soon, where the house can
	// reach it; may be nil.
	Connect func(ctx context.Context, band string)
	// PerSecond and Burst limit the requests of one key; zero: 10 and 40.
	PerSecond, Burst int
}

// docPath is where the description is.
const docPath = "/v1/openapi.json"

// maxBody bounds a request, in bytes.
const maxBody = 64 << 10

type api struct {
	Deps
	mux   *http.ServeMux
	huma  huma.API
	limit limiter
}

// New gives the handlers of "/v1/" and of "/developers".
func New(d Deps) (programs, people http.Handler) {
	a := newAPI(d)
	return a.guard(a.mux), a.developers()
}

func newAPI(d Deps) *api {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.PerSecond <= 0 || d.Burst <= 0 {
		d.PerSecond, d.Burst = 10, 40
	}
	a := &api{Deps: d, mux: http.NewServeMux(), limit: limiter{rate: float64(d.PerSecond), burst: float64(d.Burst), bucket: map[string]bucket{}}}
	cfg := huma.DefaultConfig("koala", "1.1.0")
	cfg.Info.Description = "Card templates and cards on bands, for partners. Requests carry a bearer key; every POST an Idempotency-Key."
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", "" // the document and the page are served from here, nothing from elsewhere
	cfg.CreateHooks = nil                                       // no $schema in answers
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer", Description: "A partner's key, koala_…; its rights are listed with each operation"}}
	cfg.Servers = []*huma.Server{{URL: "/"}}
	a.huma = humago.New(a.mux, cfg)
	a.operations()
	a.mux.HandleFunc("GET "+docPath, a.document)
	return a
}

// document answers with the description.
func (a *api) document(w http.ResponseWriter, r *http.Request) {
	b, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		a.refuse(w, callOf(r.Context()), fmt.Errorf("description: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // the caller hung up: nothing is left to tell it
}

func (a *api) operations() {
	add(a, huma.Operation{OperationID: "create-card-template", Method: "POST", Path: "/v1/card-templates", DefaultStatus: 201, Errors: []int{401, 403, 409, 422, 429}}, WriteTemplates, a.createTemplate)
	add(a, huma.Operation{OperationID: "list-card-templates", Method: "GET", Path: "/v1/card-templates", Errors: []int{401, 403, 422, 429}}, ReadTemplates, a.listTemplates)
	add(a, huma.Operation{OperationID: "get-card-template", Method: "GET", Path: "/v1/card-templates/{id}", Errors: []int{401, 403, 404, 429}}, ReadTemplates, a.getTemplate)
	add(a, huma.Operation{OperationID: "submit-card-template", Method: "POST", Path: "/v1/card-templates/{id}/submit", Errors: []int{401, 403, 404, 409, 422, 429}}, WriteTemplates, a.submitTemplate)
	add(a, huma.Operation{OperationID: "issue-card", Method: "POST", Path: "/v1/bands/{band}/cards", DefaultStatus: 202, Errors: []int{401, 403, 404, 409, 422, 429}}, WriteCards, a.issueCard)
	add(a, huma.Operation{OperationID: "get-order", Method: "GET", Path: "/v1/orders/{id}", Errors: []int{401, 403, 404, 429}}, ReadCards, a.getOrder)
	add(a, huma.Operation{OperationID: "get-card", Method: "GET", Path: "/v1/cards/{id}", Errors: []int{401, 403, 404, 429}}, ReadCards, a.getCard)
}

// add registers an operation that needs a right.
func add[I, O any](a *api, op huma.Operation, need Scope, do func(context.Context, *I) (*O, error)) {
	w := opWords[op.OperationID]
	op.Summary, op.Description, op.MaxBodyBytes = w.name.EN, w.lead.EN, maxBody
	op.Errors = append(op.Errors, http.StatusInternalServerError, http.StatusServiceUnavailable)
	op.Security = []map[string][]string{{"key": {string(need)}}}
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		if c := callOf(ctx.Context()); !slices.Contains(c.key.Scopes, need) {
			_, w := humago.Unwrap(ctx)
			a.refuse(w, c, fmt.Errorf("%s: %w", need, ErrScope))
			return
		}
		next(ctx)
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			p := problemOf(err)
			callOf(ctx).note(p, err)
			return nil, p
		}
		return out, nil
	})
	if item := a.huma.OpenAPI().Paths[op.Path]; item.Post != nil && item.Post.RequestBody != nil {
		delete(item.Post.RequestBody.Content, "application/octet-stream") // said of the raw body, which is the same bytes
	}
}

// Keyed is what every POST brings.
type Keyed struct {
	Key string `header:"Idempotency-Key" required:"true" minLength:"1" maxLength:"128" pattern:"^[!-~]+$" doc:"A name of this request that the partner makes. The same key with the same request replays the first answer; with another request it is a conflict. Kept for 30 days"`
}

// An Answered is a body, where it is to be found again, and whether it is an
// old answer.
type Answered[T any] struct {
	Location string `header:"Location" doc:"Where the thing is read"`
	Replayed string `header:"Idempotent-Replayed" doc:"true when this is the kept answer of an earlier request with the key"`
	Body     T
}

// Read is the answer of a GET.
type Read[T any] struct{ Body T }

// kept is an answer as it is kept for a replay.
type kept[T any] struct {
	Location string `json:"location"`
	Body     T      `json:"body"`
}

// exactly runs a POST once per partner, address and key, its answer kept in the
// same unit as its effect.
func exactly[T any](ctx context.Context, a *api, at string, k Keyed, raw []byte, act func(tx *db.Tx) (T, string, error)) (*Answered[T], error) {
	var out kept[T]
	var again bool
	var refusal keptRefusal
	err := a.Store.Write(ctx, func(tx *db.Tx) error {
		refusal = keptRefusal{}
		ans, old, err := once.Do(tx, once.Request{Scope: "open " + partner(ctx) + " " + at, Key: k.Key, Body: raw}, func() (once.Answer, error) {
			body, where, err := act(tx)
			if err != nil {
				return once.Answer{}, err
			}
			b, err := json.Marshal(kept[T]{where, body})
			return once.Answer{Status: http.StatusOK, Type: "application/json", Body: b}, err
		})
		if errors.As(err, &refusal) {
			return nil
		}
		if err != nil {
			return err
		}
		again = old
		return json.Unmarshal(ans.Body, &out)
	})
	if err == nil {
		err = refusal.error
	}
	if err != nil {
		return nil, err
	}
	res := &Answered[T]{Location: out.Location, Body: out.Body}
	if again {
		res.Replayed, callOf(ctx).replayed = "true", true
	}
	return res, nil
}
