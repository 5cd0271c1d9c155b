//! Sessions that key the images they are fed.

use std::fmt::Debug;

use onnxseal_inputs::{Images, ImagesMut, InputKey, Scale, ValueType};
use ort::session::{Session, SessionInputValue, SessionInputs, SessionOutputs};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorElementType};

use crate::error::{Error, Result};

/// A session of a model that takes keyed images, with its key. You feed it the images that the
/// original takes.
///
/// Keyed images are not confidential: `docs/INPUTS.md` says what they protect against.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::fs::File;
/// use std::path::Path;
///
/// use onnxseal_runtime::{Identities, InputKey, KeyedSession, Model};
/// use ort::session::Session;
/// use ort::value::TensorRef;
///
/// let environment = onnxseal_runtime::load()?.build()?;
/// let identities = Identities::read(File::open("id.txt")?, "id.txt")?;
/// let model = Model::open(Path::new("sealed.onnx"), &identities)?;
/// let session = model.into_session(Session::builder(&environment)?)?;
///
/// let key = InputKey::open(Path::new("key.txt"), None)?;
/// let mut session = KeyedSession::new(session, key)?;
/// let images = vec![0.5_f32; 3 * 224 * 224];
/// let images = TensorRef::from_array_view(([1, 3, 224, 224], &images[..]))?;
/// let outputs = session.run(ort::inputs![images])?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KeyedSession {
    session: Session,
    /// The position and name of the input that takes keyed images.
    input: (usize, String),
    key: InputKey,
}

impl KeyedSession {
    /// Combines a session with the key for its only input of 4 axes.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has no such input, or several.
    pub fn new(session: Session, key: InputKey) -> Result<KeyedSession> {
        let inputs = session.inputs().iter().enumerate();
        let images: Vec<usize> = inputs
            .filter(|(_, input)| (input.dtype().tensor_shape()).is_some_and(|dims| dims.len() == 4))
            .map(|(at, _)| at)
            .collect();
        match images[..] {
            [at] => Ok(KeyedSession::at(session, at, key)),
            _ => {
                let n = images.len();
                let reason =
                    format!("the model has {n} inputs of 4 axes: say which the key is for");
                Err(Error::Usage(reason))
            }
        }
    }

    /// Combines a session with the key for its input of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has no such input.
    pub fn with_input(session: Session, input: &str, key: InputKey) -> Result<KeyedSession> {
        let mut inputs = session.inputs().iter();
        match inputs.position(|known| known.name() == input) {
            Some(at) => Ok(KeyedSession::at(session, at, key)),
            None => {
                let names: Vec<&str> = session.inputs().iter().map(|known| known.name()).collect();
                let names = names.join(", ");
                let reason = format!(
                    "the key is for input {input:?}, which the model lacks: its inputs are {names}"
                );
                Err(Error::Usage(reason))
            }
        }
    }

    fn at(session: Session, at: usize, key: InputKey) -> KeyedSession {
        let name = (session.inputs().get(at)).map(|input| input.name().to_owned());
        KeyedSession {
            session,
            input: (at, name.unwrap_or_default()),
            key,
        }
    }

    /// Returns the name of the input that takes keyed images.
    pub fn input(&self) -> &str {
        &self.input.1
    }

    /// Returns the session, for example to list its inputs and outputs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Runs the model as [`Session::run`] does, on plain images.
    ///
    /// The call writes keyed images to a new tensor and leaves yours unchanged. Tensors of u8, u16,
    /// i8, f16 and f32 have 3 axes (one image) or 4 (images), in the order of the key's layout, in
    /// memory of the processor. If the key has a mean and a deviation, floats are normalised by
    /// these.
    ///
    /// # Errors
    /// [`Error::Inputs`] and [`Error::Usage`] if images do not fit the key; [`Error::Run`].
    pub fn run<'s, 'i, 'v: 'i, const N: usize>(
        &'s mut self,
        inputs: impl Into<SessionInputs<'i, 'v, N>>,
    ) -> Result<SessionOutputs<'s>> {
        let outputs = match inputs.into() {
            SessionInputs::ValueMap(mut values) => {
                let mut named = values.iter_mut();
                if let Some((_, value)) = named.find(|(name, _)| *name == self.input.1) {
                    *value = self.keyed(value)?;
                }
                self.session.run(values)
            }
            SessionInputs::ValueArray(mut values) => {
                self.replace(&mut values)?;
                self.session.run(values)
            }
            SessionInputs::ValueSlice(values) => {
                let views = values.iter().map(|value| value.view().into());
                let mut values: Vec<SessionInputValue<'_>> = views.collect();
                self.replace(&mut values)?;
                self.session.run(&values[..])
            }
        };
        outputs.map_err(Error::Run)
    }

    /// Replaces plain images by keyed ones, in `values`, which follow the order of the session's
    /// inputs.
    fn replace(&mut self, values: &mut [SessionInputValue<'_>]) -> Result<()> {
        if let Some(value) = values.get_mut(self.input.0) {
            *value = self.keyed(value)?;
        }
        Ok(())
    }

    /// Makes keyed images from plain ones.
    fn keyed<'v>(&mut self, images: &DynValue) -> Result<SessionInputValue<'v>> {
        use ValueType::{F16, F32, I8, U8, U16};
        let of = value_type(images)?;
        // If no type is possible, the cipher reports it.
        let into = self.key.keyed_types(of).first().copied().unwrap_or(of);
        match (of, into) {
            (U8, U16) => self.transformed::<u8, u16>(images),
            (U8, _) => self.transformed::<u8, u8>(images),
            (U16, _) => self.transformed::<u16, u16>(images),
            (I8, _) => self.transformed::<i8, i8>(images),
            (F16, _) => self.transformed::<half::f16, half::f16>(images),
            (F32, _) => self.transformed::<f32, f32>(images),
        }
    }

    fn transformed<'v, A, B>(&mut self, images: &DynValue) -> Result<SessionInputValue<'v>>
    where
        A: PrimitiveTensorElementType,
        B: PrimitiveTensorElementType + Clone + Debug + Default + 'static,
        for<'a> &'a [A]: Into<Images<'a>>,
        for<'a> &'a mut [B]: Into<ImagesMut<'a>>,
    {
        let (shape, plain) = images.try_extract_tensor::<A>().map_err(Error::Run)?;
        // `usize` fits: the tensor's elements were counted when it was made.
        let dims: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
        let mut keyed = vec![B::default(); plain.len()];
        let images: Images<'_> = plain.into();
        let is_float = matches!(images.value_type(), ValueType::F16 | ValueType::F32);
        let scale = if is_float && self.key.spec().normalisation.is_some() {
            Scale::Normalised
        } else {
            Scale::Pixels
        };
        let cipher = self.key.cipher_for(&dims)?;
        cipher.apply(images, &mut keyed[..], scale)?;
        let keyed = Tensor::from_array((dims, keyed)).map_err(Error::Run)?;
        Ok(keyed.into())
    }
}

/// Returns the pixel type of a tensor.
fn value_type(images: &DynValue) -> Result<ValueType> {
    Ok(match images.dtype().tensor_type() {
        Some(TensorElementType::Uint8) => ValueType::U8,
        Some(TensorElementType::Uint16) => ValueType::U16,
        Some(TensorElementType::Int8) => ValueType::I8,
        Some(TensorElementType::Float16) => ValueType::F16,
        Some(TensorElementType::Float32) => ValueType::F32,
        _ => {
            let found = images.dtype();
            let reason =
                format!("pixels are u8, u16, i8, f16 or f32, not {found}: convert them first");
            return Err(Error::Usage(reason));
        }
    })
}
