package open

import (
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"koala/internal/fail"
	"koala/issuing"
	"koala/web"
)

// Failures of the API itself.
var (
	ErrKey          = fail.Define(fail.Forbidden, "open.key", "the request needs a living key: Authorization: Bearer koala_…")
	ErrScope        = fail.Define(fail.Forbidden, "open.scope", "the key has no right to this")
	ErrRate         = fail.Define(fail.Busy, "open.rate", "too many requests with this key; wait as Retry-After says")
	ErrBody         = fail.Define(fail.Invalid, "open.request", "the request is not as the reference describes it")
	ErrNoThing      = fail.Define(fail.NotFound, "open.not_found", "the partner has no such thing")
	ErrNotOnSale    = fail.Define(fail.Refused, "open.not_on_sale", "cards of this template are not on sale: it is not approved, or a newer version took its place")
	ErrReference    = fail.Define(fail.Conflict, "open.reference", "the reference was used for another order")
	ErrPartner      = fail.Define(fail.Invalid, "open.partner", "a partner needs a code of a-z, 0-9 and dash, names in both languages; a key a name and at least one right")
	ErrTaken        = fail.Define(fail.Conflict, "open.partner_taken", "another partner has this code")
	ErrNoPartner    = fail.Define(fail.NotFound, "open.no_partner", "there is no such partner or key")
	ErrConsent      = fail.Define(fail.Forbidden, "open.consent", "this is no code that the band's wearer made; after 5 wrong codes in a row every living code of the band ends")
	ErrConsentOver  = fail.Define(fail.Refused, "open.consent_over", "this code was used, withdrawn or is older than 15 minutes; ask the wearer for another")
	ErrConsentFirm  = fail.Define(fail.Forbidden, "open.consent_firm", "the wearer made this code for another firm")
	ErrConsentMany  = fail.Define(fail.Refused, "open.consent_many", "five codes of this band live already; use or withdraw one first")
	ErrConsentShown = fail.Define(fail.Conflict, "open.consent_shown", "this form has made its code already, and a code is shown once only; withdraw that one and make another")
	ErrShown        = fail.Define(fail.Conflict, "open.key_shown", "this form has made its key already, and a key is shown once only; make another and revoke that one")
)

// A Problem is the answer to a request that was not done (RFC 9457, 3.1). It
// never repeats a value that was sent.
type Problem struct {
	Type      string         `json:"type" format:"uri-reference" doc:"Where the code is described" example:"/developers#open.not_on_sale"`
	Title     string         `json:"title" doc:"The words of the HTTP status"`
	Status    int            `json:"status" doc:"The HTTP status"`
	Detail    string         `json:"detail" doc:"One sentence for people"`
	Code      string         `json:"code" doc:"What programs decide by; codes are added, never changed"`
	RequestID string         `json:"request_id,omitempty" doc:"Name of the request in the log, to be quoted to staff"`
	Fields    []FieldProblem `json:"fields,omitempty" doc:"What is wrong with single inputs"`
}

// A FieldProblem says what is wrong with one input.
type FieldProblem struct {
	Field   string `json:"field" doc:"Where it stands: body.coupon.uses, header.Idempotency-Key"`
	Message string `json:"message" doc:"What is wrong"`
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of problem documents.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// The library makes its own problems through globals: they become ours, and
// lose the rejected values, which may be somebody's secret.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		p := newProblem(status, ErrBody.Code, msg)
		if status >= http.StatusInternalServerError {
			p.Code, p.Detail = fail.ErrUnknown.Code, fail.ErrUnknown.Text
			p.Type = typeOf(p.Code)
			return p
		}
		for _, err := range errs {
			var d huma.ErrorDetailer
			if errors.As(err, &d) {
				p.Fields = append(p.Fields, FieldProblem{d.ErrorDetail().Location, d.ErrorDetail().Message})
			}
		}
		return p
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		err := huma.NewError(status, msg, errs...)
		var p *Problem
		if errors.As(err, &p) {
			callOf(ctx.Context()).note(p, errors.Join(append(errs, p)...))
		}
		return err
	}
}

func typeOf(code string) string { return "/developers#" + code }

func newProblem(status int, code, detail string) *Problem {
	return &Problem{Type: typeOf(code), Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// problemOf says a failure of the house to a partner.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	f := fail.Of(err)
	status := web.StatusOf(f.Kind)
	switch f {
	case ErrKey:
		status = http.StatusUnauthorized
	case ErrRate:
		status = http.StatusTooManyRequests
	case web.ErrMethod:
		status = http.StatusMethodNotAllowed
	}
	p = newProblem(status, f.Code, f.Text)
	if _, what, found := strings.Cut(err.Error(), issuing.ErrTemplate.Text+": "); found && f == issuing.ErrTemplate {
		p.Detail += ": " + what // the house's own words about the description
	}
	return p
}

// statusOf is the HTTP status of a failure here.
func statusOf(f *fail.Failure) int { return problemOf(f).Status }
