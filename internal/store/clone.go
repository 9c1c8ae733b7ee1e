package store

import "reflect"

// clone copies a record deeply through pointers, slices, maps, interfaces and
// exported fields. Unexported fields are copied as they are, which is right for
// values such as time.Time and netip.Addr; they would not survive JSON anyway.
func clone[T any](v *T) *T {
	out := new(T)
	*out = *v
	cloneInto(reflect.ValueOf(out).Elem())
	return out
}

// cloneInto replaces what v shares with its original by copies. v is settable.
func cloneInto(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(v.Elem())
			cloneInto(p.Elem())
			v.Set(p)
		}
	case reflect.Slice:
		cloneSlice(v)
	case reflect.Map:
		cloneMap(v)
	case reflect.Interface:
		if !v.IsNil() {
			e := reflect.New(v.Elem().Type()).Elem()
			e.Set(v.Elem())
			cloneInto(e)
			v.Set(e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && shares(f.Kind()) {
				cloneInto(f)
			}
		}
	case reflect.Array:
		if shares(v.Type().Elem().Kind()) {
			for i := range v.Len() {
				cloneInto(v.Index(i))
			}
		}
	}
}

func cloneSlice(v reflect.Value) {
	if v.IsNil() {
		return
	}
	s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
	reflect.Copy(s, v)
	if shares(v.Type().Elem().Kind()) {
		for i := range s.Len() {
			cloneInto(s.Index(i))
		}
	}
	v.Set(s)
}

func cloneMap(v reflect.Value) {
	if v.IsNil() {
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), v.Len())
	deep := shares(v.Type().Elem().Kind())
	for it := v.MapRange(); it.Next(); {
		e := it.Value()
		if deep {
			c := reflect.New(v.Type().Elem()).Elem()
			c.Set(e)
			cloneInto(c)
			e = c
		}
		m.SetMapIndex(it.Key(), e)
	}
	v.Set(m)
}

// shares tells whether a copy of a value of this kind can share memory with it.
func shares(k reflect.Kind) bool {
	switch k {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Struct, reflect.Array:
		return true
	}
	return false
}
