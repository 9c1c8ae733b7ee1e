// Package errs is the small error vocabulary that every Strata package shares.
//
// Services return these errors; the REST kit turns a Kind into the status and
// the envelope of the API family that is being spoken. Compare with Is or
// errors.As, never by text.
package errs

import (
	"errors"
	"fmt"
	"net/http"
)

// Kind classifies an error by what the caller can do about it.
type Kind int

// The kinds, with the HTTP status that most API families give them.
const (
	Internal        Kind = iota // 500: our own fault
	Invalid                     // 400: the request is wrong
	Unauthenticated             // 401: no or bad credentials
	Forbidden                   // 403: policy refuses
	NotFound                    // 404
	Conflict                    // 409: the state of the resource refuses
	TooLarge                    // 413
	Unsupported                 // 406: version
	MediaType                   // 415
	QuotaExceeded               // 403 in compute, 409 in network, 413 in image and volume
	NoCapacity                  // 409 or a fault: nothing can hold it
	Precondition                // 412: If-Match or revision
	TooMany                     // 429: rate limit
	Unavailable                 // 503: try again
	NotImplemented              // 501
)

// Status is the HTTP status that most API families give the kind.
func (k Kind) Status() int {
	switch k {
	case Invalid:
		return http.StatusBadRequest
	case Unauthenticated:
		return http.StatusUnauthorized
	case Forbidden, QuotaExceeded:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case Conflict, NoCapacity:
		return http.StatusConflict
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case Unsupported:
		return http.StatusNotAcceptable
	case MediaType:
		return http.StatusUnsupportedMediaType
	case Precondition:
		return http.StatusPreconditionFailed
	case TooMany:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	case NotImplemented:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// KindOfStatus is the kind that Status gives the status; Internal when there is none.
func KindOfStatus(status int) Kind {
	for k := Invalid; k <= NotImplemented; k++ {
		if k.Status() == status {
			return k
		}
	}
	return Internal
}

// Error is an error with a kind and, when upstream names one, a code such as
// "IpAddressInUse" or "placement.concurrent_update" that goes on the wire.
type Error struct {
	Kind  Kind
	Code  string
	Msg   string
	cause error
}

// Error is the text that a user may read.
func (e *Error) Error() string { return e.Msg }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// New makes an error of a kind; a %w verb in format sets the cause.
func New(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Msg: err.Error(), cause: errors.Unwrap(err)}
}

// Coded makes an error of a kind with the upstream's name for it.
func Coded(kind Kind, code, format string, args ...any) *Error {
	e := New(kind, format, args...)
	e.Code = code
	return e
}

// Invalidf makes an Invalid error.
func Invalidf(format string, args ...any) *Error { return New(Invalid, format, args...) }

// NotFoundf makes a NotFound error.
func NotFoundf(format string, args ...any) *Error { return New(NotFound, format, args...) }

// Conflictf makes a Conflict error.
func Conflictf(format string, args ...any) *Error { return New(Conflict, format, args...) }

// Forbiddenf makes a Forbidden error.
func Forbiddenf(format string, args ...any) *Error { return New(Forbidden, format, args...) }

// KindOf tells the kind of the outermost Error in err's chain, Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// CodeOf tells the upstream's name of the error, or "".
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Is tells whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
