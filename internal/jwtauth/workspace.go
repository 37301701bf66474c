package jwtauth

import "sync"

// workspace is memory that a token is taken apart in. It is reused: what is found out
// about the token must not refer to it.
type workspace struct {
	// stack holds the members of the objects and arrays that are being read, the
	// innermost one's last: so that each one's own list is made once, in its size.
	stack []member
	// kept are the lists of what was read, one behind the other. What does not fit
	// in mayKeep members gets memory of its own.
	kept    []member
	mayKeep int
	text    []byte // a decoded part of the token
	sig     []byte
	token   token
}

const (
	// keptMembers are enough for the usual token; a workspace of more than stackMost
	// is not used again.
	keptMembers = 64
	stackMost   = 256
	bytesMost   = 4096
)

var workspaces = sync.Pool{New: func() any {
	return &workspace{stack: make([]member, 0, 32), kept: make([]member, 0, keptMembers)}
}}

func takeWorkspace() *workspace {
	w := workspaces.Get().(*workspace) //nolint:errcheck // the pool holds nothing else
	w.mayKeep = keptMembers
	return w
}

// free gives the workspace back. No token stays behind in the pool.
func (w *workspace) free() {
	if cap(w.stack) > stackMost || cap(w.text) > bytesMost || cap(w.sig) > bytesMost {
		return
	}
	clear(w.stack[:cap(w.stack)])
	clear(w.kept)
	clear(w.text[:cap(w.text)])
	clear(w.sig[:cap(w.sig)])
	w.token = token{}
	w.stack, w.kept, w.text, w.sig = w.stack[:0], w.kept[:0], w.text[:0], w.sig[:0]
	workspaces.Put(w)
}

// keep takes the members from first on off the stack.
func (w *workspace) keep(first int) []member {
	list := w.stack[first:]
	n := len(w.kept)
	if n+len(list) > w.mayKeep {
		list = append(make([]member, 0, len(list)), list...)
	} else {
		w.kept = append(w.kept, list...)
		list = w.kept[n:len(w.kept):len(w.kept)]
	}
	w.stack = w.stack[:first]
	return list
}
